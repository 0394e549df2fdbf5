"""Flower's own simulation engine, on Ray, for federations that outgrow one process."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence

import torch
from flwr.serverapp import ServerApp

from mmfed_client.app import make_client_app
from mmfed_client.site import SiteData
from mmfed_common.errors import PrivacyError, StudyError
from mmfed_common.flower_environment import quiet_flower
from mmfed_simulations.backends.saved_sites import SavedSites
from mmfed_simulations.run_folder import RunFolder


class RayBackend:
    """Runs the apps with ``flwr.simulation.run_simulation``, quietly.

    Raises
    ------
    StudyError
        ``MMF-510`` when Ray is not installed.
    """

    def __init__(self) -> None:
        if importlib.util.find_spec("ray") is None:
            raise StudyError("MMF-510", "the back end `ray` needs the package ray")

    def run(self, server_app: ServerApp, folder: RunFolder, sites: Sequence[SiteData], workers: int) -> None:
        """Run to the end; see :class:`~mmfed_simulations.backends.base.Backend`.

        Raises
        ------
        PrivacyError
            ``MMF-393`` for a study with secure aggregation.
        """
        from flwr.server.superlink.fleet.vce.backend.backend import BackendConfig
        from flwr.simulation import run_simulation

        if folder.study().aggregation.secure:
            raise PrivacyError("MMF-393", "the study sets `secure = true`")
        graphics = torch.cuda.device_count()
        config: BackendConfig = {
            "init_args": {
                "num_cpus": max(1, workers),
                "num_gpus": graphics,
                "log_to_driver": False,
                "logging_level": "error",
                "include_dashboard": False,
            },
            "client_resources": {"num_cpus": 1, "num_gpus": graphics / max(1, workers)},
        }
        app = make_client_app(SavedSites(folder.path))
        with quiet_flower(logging.CRITICAL):
            run_simulation(server_app, app, num_supernodes=len(sites), backend_config=config)
