"""Questions to a person, where there may be none to answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click


@contextmanager
def answered_by(instead: str) -> Iterator[None]:
    """Ask within this context; without a terminal the question is wrong usage, not a defect.

    Parameters
    ----------
    instead
        What answers the question beforehand, e.g. ``--yes``.

    Raises
    ------
    click.UsageError
        When nobody can answer.
    KeyboardInterrupt
        When a person stops the program instead of answering; click makes one exception of both.
    """
    try:
        yield
    except click.Abort as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from None
        raise click.UsageError(f"there is nobody here to ask: answer beforehand with {instead}") from None
