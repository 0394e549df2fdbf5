"""The template of a study: valid as it is, and complete."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator

import pytest
from pydantic import BaseModel

from mmfed_common.contract import Section
from mmfed_common.errors import StudyError
from mmfed_common.study import Study
from mmfed_common.study_words import study_in_words
from mmfed_server.studies import study_template


def keys(model: type[BaseModel]) -> Iterator[str]:
    """Every key of a document and of everything in it."""
    for name, field in model.model_fields.items():
        yield name
        for inner in nested(field.annotation):
            yield from keys(inner)


def nested(annotation: object) -> Iterator[type[BaseModel]]:
    """Section classes inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from nested(part)


def test_the_template_is_a_study_and_its_seed_counts() -> None:
    first, second = (Study.from_content(tomllib.loads(study_template("lung", seed))).hash for seed in (1, 2))
    assert first != second


def test_every_key_of_a_study_stands_in_the_template() -> None:
    text = study_template("lung", 1)
    written = set(re.findall(r"^(?:# )?([a-z_0-9]+) = ", text, flags=re.MULTILINE))
    written |= {part for path in re.findall(r"\[([a-z_.]+)\]", text) for part in path.split(".")}
    assert sorted(set(keys(Study)) - written) == []


def test_every_line_that_is_commented_out_is_accepted_when_it_is_not() -> None:
    """Take every optional section and key at once; only what excludes each other is left out."""
    text = study_template("lung", 1)
    lines = [re.sub(r"^# (?=\[|[a-z_0-9]+ = )", "", line) for line in text.splitlines()]
    pack = f'"{"0" * 64}"'
    opened = (
        "\n".join(lines)
        .replace('"…"', pack)
        .replace("validation_fraction = 0.0", "validation_fraction = 0.1")
    )
    excluded = r"^(epsilon|delta|scaling_epsilon|tail_averaging) = .*$"
    opened = re.sub(excluded, "", opened, flags=re.MULTILINE)
    study = Study.from_content(tomllib.loads(opened))
    assert study.contract.imaging is not None
    assert study.contract.metabolite is not None
    assert study.training.patience == 5


def test_the_amounts_of_privacy_in_the_template_make_a_private_study() -> None:
    text = study_template("lung", 1)
    opened = re.sub(r"^# (?=epsilon|delta|scaling_epsilon|clipping)", "", text, flags=re.MULTILINE)
    content = tomllib.loads(opened.replace('mode = "none"', 'mode = "dp"'))
    content["contract"]["normalisation"] = "reference"
    assert 0 < content["privacy"].pop("scaling_epsilon") < content["privacy"]["epsilon"]
    assert Study.from_content(content).privacy.mode == "dp"


@pytest.mark.parametrize(
    ("name", "becomes"), [("Lung 2026", "lung-2026"), ("_x", "x"), ("a" * 99, "a" * 63), ('a"b', "a-b")]
)
def test_any_name_becomes_one_that_is_allowed(name: str, becomes: str) -> None:
    assert Study.from_content(tomllib.loads(study_template(name, 1))).study.name == becomes


def test_a_name_without_letters_is_refused() -> None:
    with pytest.raises(StudyError) as caught:
        study_template("***", 1)
    assert caught.value.code == "MMF-501"


def test_words_follow_what_the_study_says() -> None:
    study = Study.from_content(tomllib.loads(study_template("lung", 1)))
    words = {topic.title: " ".join(topic.sentences) for topic in study_in_words(study)}
    assert study.hash in words["What it is"]
    assert "stage" in words["What is read from your tables"]
    assert "sum of squares" in words["What leaves your site"]
    quiet = study.with_changes(contract={"normalisation": "site"}, evaluation={"rule": "none"})
    leaves = {t.title: " ".join(t.sentences) for t in study_in_words(quiet)}["What leaves your site"]
    assert "sum of squares" not in leaves
    assert "held-out" not in leaves
