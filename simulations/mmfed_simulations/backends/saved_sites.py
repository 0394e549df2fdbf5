"""Opens sites from a run's folder, in whatever process a ClientApp happens to run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flwr.app import Context

from mmfed_client.training import LocalSite
from mmfed_common.errors import StudyError
from mmfed_simulations.run_folder import local_site

RUN_DIR = "run-dir"


@dataclass(frozen=True)
class SavedSites:
    """Opens the site of a context's partition.

    Attributes
    ----------
    folder
        The run's folder; None: the context's run configuration names it as ``run-dir``.
    """

    folder: Path | None = None

    def __call__(self, context: Context) -> LocalSite:
        """Open the site, once a process."""
        folder = self.folder or run_folder_of(context)
        return local_site(folder, int(context.node_config["partition-id"]))


def run_folder_of(context: Context) -> Path:
    """Give the folder that the run configuration names.

    Raises
    ------
    StudyError
        ``MMF-523`` when it names none.
    """
    name = str(context.run_config.get(RUN_DIR, ""))
    if not name:
        raise StudyError("MMF-523", "`run-dir` is empty in the run configuration")
    return Path(name)
