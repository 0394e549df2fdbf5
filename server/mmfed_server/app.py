"""The Flower ServerApp: runs the study that its context names."""

from __future__ import annotations

from collections.abc import Callable

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from mmfed_server.plan import RunPlan
from mmfed_server.rounds import run_rounds

OpenPlan = Callable[[Context], RunPlan]


def make_server_app(open_plan: OpenPlan) -> ServerApp:
    """Build the ServerApp around something that finds the plan of a run."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        run_rounds(grid, open_plan(context))

    return app
