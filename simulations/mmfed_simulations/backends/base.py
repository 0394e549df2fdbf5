"""The interface of the back ends, and their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from flwr.serverapp import ServerApp

from mmfed_client.site import SiteData
from mmfed_common.errors import StudyError
from mmfed_simulations.run_folder import RunFolder

BACKENDS = ("inprocess", "ray")


class Backend(Protocol):
    """Runs a ServerApp to its end against one ClientApp for each site of a run's folder."""

    def run(self, server_app: ServerApp, folder: RunFolder, sites: Sequence[SiteData], workers: int) -> None:
        """Run to the end.

        Parameters
        ----------
        server_app
            Runs the rounds.
        folder
            The prepared run.
        sites
            The same patients as in the folder, for a back end that can use them where they are.
        workers
            How many sites may train at the same time.

        Raises
        ------
        MmfedError
            What ended the run.
        """


def backend_named(name: str) -> Backend:
    """Give a back end.

    Raises
    ------
    StudyError
        ``MMF-510`` when it is unknown or its package is not installed.
    """
    if name == "inprocess":
        from mmfed_simulations.backends.inprocess import InProcessBackend

        return InProcessBackend()
    if name == "ray":
        from mmfed_simulations.backends.ray_engine import RayBackend

        return RayBackend()
    raise StudyError("MMF-510", f"there is no back end {name}; there are {', '.join(BACKENDS)}")
