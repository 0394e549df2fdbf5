"""The commented template that ``mmfed-server study new`` writes."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from mmfed_common.errors import StudyError
from mmfed_common.study import Study

TEMPLATE = "template.toml.j2"


def study_template(name: str, seed: int) -> str:
    """Fill the template; every key of a study stands in it, those with defaults as comments.

    Parameters
    ----------
    name
        The study's name; what a name may not hold becomes ``-``.
    seed
        The study's seed.

    Raises
    ------
    StudyError
        ``MMF-501`` when the result is not a valid study, as with a name that has no letter or digit.
    """
    text = files("mmfed_server.studies").joinpath(TEMPLATE).read_text(encoding="utf-8")
    allowed = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")[:63]
    if not allowed:
        raise StudyError("MMF-501", f"{name!r} holds no letter or digit that a name could begin with")
    environment = Environment(undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True)
    filled = environment.from_string(text).render(name=allowed, seed=seed)
    Study.from_content(tomllib.loads(filled))
    return filled
