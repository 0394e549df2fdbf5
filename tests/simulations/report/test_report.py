"""The report is one file that needs nothing else, says everything, and survives missing parts."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.simulations.report import example

from mmfed_simulations.report import write_report
from mmfed_simulations.report.page import format_bytes, format_seconds

FRAME = example.example_predictions(n=150)
RESULTS = example.example_results(FRAME)


class _Page(HTMLParser):
    """Collect pictures, links and the balance of tags."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[dict[str, str | None]] = []
        self.outside: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.pictures.append(found)
        self.outside += [v for k, v in attrs if k in ("src", "href") and v and not v.startswith("data:")]
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("report")
    path = write_report(RESULTS, FRAME, RESULTS["rounds"], folder)
    assert path == folder / "report.html"
    return path.read_text(encoding="utf-8")


def test_it_is_self_contained_and_well_formed(page: str) -> None:
    parser = _Page()
    parser.feed(page)
    assert parser.open == []
    assert parser.outside == []
    assert "<script" not in page
    assert "@import" not in page


def test_every_picture_has_a_text_and_is_an_svg(page: str) -> None:
    parser = _Page()
    parser.feed(page)
    assert len(parser.pictures) == 8
    for picture in parser.pictures:
        assert len(picture["alt"] or "") > 20
        kind, content = (picture["src"] or "").split(",", 1)
        assert kind == "data:image/svg+xml;base64"
        assert ElementTree.fromstring(base64.b64decode(content)).tag.endswith("svg")


def test_figures_on_the_page_are_those_of_the_results(page: str) -> None:
    for tasks in RESULTS["arms"].values():
        for figures in tasks.values():
            for name, figure in figures.items():
                assert f"{figure['estimate']:.3f}" in page, name
    difference = next(
        r
        for r in RESULTS["paired"]
        if (r["first"], r["second"], r["metric"]) == ("federated", "pooled", "c_index")
    )
    assert f"{difference['estimate']:+.3f}" in page


def test_it_says_how_it_was_made(page: str) -> None:
    for fact in (
        RESULTS["study"]["hash"],
        "Seed",
        RESULTS["held_out"],
        RESULTS["versions"]["torch"],
        "too few",
    ):
        assert fact in page
    assert "below the floor of 5 training patients" in page
    assert RESULTS["notes"][0] in page


def test_no_patient_is_named(page: str) -> None:
    assert not re.search(r"p\d{4}\b", re.sub(r"base64,[^\"]+", "", page))


def test_text_of_the_study_cannot_become_markup(tmp_path: Path) -> None:
    hostile = {**RESULTS, "held_out": "<img src=x onerror=alert(1)>"}
    text = write_report(hostile, FRAME, [], tmp_path).read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert "&lt;img src=x" in text


def test_same_input_same_page(tmp_path: Path, page: str) -> None:
    again = write_report(RESULTS, FRAME, RESULTS["rounds"], tmp_path).read_text(encoding="utf-8")
    assert again == page


def test_a_run_with_one_arm_and_nobody_held_out(tmp_path: Path) -> None:
    nothing = {
        **RESULTS,
        "kind": "run",
        "arms": {},
        "paired": [],
        "calibration": {},
        "site_c_index": {},
        "arm_descriptions": {},
    }
    text = write_report(nothing, FRAME.iloc[:0], [], tmp_path).read_text(encoding="utf-8")
    assert "Federated run" in text


def test_amounts_are_readable() -> None:
    assert [format_bytes(n) for n in (None, 12, 1500, 2_500_000, 7e9)] == [
        "–",
        "12 B",
        "1.5 kB",
        "2.5 MB",
        "7.0 GB",
    ]
    assert [format_seconds(s) for s in (None, 3.14, 185.0)] == ["–", "3.1 s", "3 min 05 s"]
