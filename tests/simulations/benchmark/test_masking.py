"""The benchmark of secure aggregation runs both kinds, on the same patients, to the same weights."""

from __future__ import annotations

import json

import pytest

from mmfed_simulations.cli import program


def test_both_kinds_are_measured_and_agree(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--sites", "3", "--parameters", "3000", "--rounds", "2", "--repeats", "1", "--threads", "1"]
    assert program.run(["benchmark", "masking", *words, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["sites"] == 3
    assert 1000 < result["parameters"] < 10_000
    assert result["ratio"] == result["masked_seconds"] / result["plain_seconds"] > 0
    assert result["largest_difference"] < 1e-5
