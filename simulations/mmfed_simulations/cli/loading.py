"""Reading a study and its cohorts, with a progress bar; warnings go to stderr."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from mmfed_client.cohort import format_faults
from mmfed_common.command_line.output import progress_bar
from mmfed_common.errors import CohortError
from mmfed_common.study import Study
from mmfed_simulations.consortium import LoadedConsortium, load_consortium


def load(study_file: Path, cohort: Path, data: Path | None) -> LoadedConsortium:
    """Read everything; faults are shown as a table before the error goes on.

    Raises
    ------
    MmfedError
        Whatever is wrong with study, knowledge pack or cohorts.
    """
    return load_cohorts(Study.load(study_file), study_file.parent, cohort, data)


def load_cohorts(study: Study, folder: Path, cohort: Path, data: Path | None) -> LoadedConsortium:
    """Read the cohorts for a study whose knowledge pack lies in ``folder``; as :func:`load`."""
    console = Console(stderr=True)
    try:
        with progress_bar() as bar:
            task = bar.add_task("reading cohorts", total=None)
            loaded = load_consortium(
                cohort,
                study,
                folder,
                data,
                progress=lambda done, total, _: bar.update(task, completed=done, total=total),
            )
    except CohortError as error:
        console.print(format_faults(error.faults))
        raise
    if loaded.cohort.warnings:
        console.print(format_faults(loaded.cohort.warnings))
    return loaded
