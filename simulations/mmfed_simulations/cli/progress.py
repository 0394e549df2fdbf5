"""A progress bar for work that tells how many of its trainings are done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mmfed_common.command_line.output import progress_bar


@contextmanager
def trainings_bar(what: str = "trainings") -> Iterator[Callable[[int, int, str], None]]:
    """Give what is called with trainings done, trainings in all, and what was done last."""
    with progress_bar() as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total, label: bar.update(task, completed=done, total=total, description=label)
