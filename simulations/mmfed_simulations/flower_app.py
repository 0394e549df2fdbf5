"""The apps that ``flwr run .`` finds, over a run that ``mmfed-simulate run … --prepare-only`` prepared."""

from __future__ import annotations

from flwr.app import Context

from mmfed_client.app import make_client_app
from mmfed_server.app import make_server_app
from mmfed_server.plan import RunPlan
from mmfed_simulations.backends.saved_sites import SavedSites, run_folder_of
from mmfed_simulations.run_folder import RunFolder


def _plan(context: Context) -> RunPlan:
    return RunFolder(run_folder_of(context)).plan()


server_app = make_server_app(_plan)
client_app = make_client_app(SavedSites())
