"""The rules about units and event coding, on real cohorts and on the same cohorts spoilt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from lifelines import datasets

from mmfed_client.cohort.plausibility import share_of_smaller_unit, suspect_event_coding, suspect_unit
from mmfed_common.contract import Survival

Values = npt.NDArray[np.float64]
BINS = Survival(bins=(180.0, 365.0, 730.0, 1095.0, 1825.0, 3650.0))
TCGA = ("BRCA", "LUAD", "KIRC", "BLCA", "SKCM")
MONTH = 30.4375


def columns(frame: pd.DataFrame, time: str, event: str) -> tuple[Values, Values]:
    known = frame.dropna(subset=[time])
    return known[time].to_numpy(dtype=float), known[event].to_numpy(dtype=float)


def lifelines_cohorts() -> dict[str, tuple[Values, Values]]:
    """Follow-up in days and events of cohorts that ship with lifelines."""
    rossi = columns(datasets.load_rossi(), "week", "arrest")
    larynx = columns(datasets.load_larynx(), "time", "death")
    return {
        "lung": columns(datasets.load_lung(), "time", "status"),
        "rossi": (rossi[0] * 7, rossi[1]),
        "larynx": (larynx[0] * 365.25, larynx[1]),
        "gbsg2": columns(datasets.load_gbsg2(), "time", "cens"),
        "lymphoma": columns(datasets.load_lymphoma(), "Time", "Censor"),
        "kidney": columns(datasets.load_kidney_transplant(), "time", "death"),
    }


@pytest.mark.parametrize("name", sorted(lifelines_cohorts()))
def test_real_cohorts_of_lifelines_are_not_suspected(name: str) -> None:
    time, event = lifelines_cohorts()[name]
    assert suspect_unit(time, "days", BINS) == []
    assert suspect_event_coding(time, event) is None


@pytest.mark.shared_data
@pytest.mark.parametrize("name", TCGA)
def test_real_cohorts_of_tcga_are_not_suspected(name: str, shared_data: Path) -> None:
    frame = pd.read_parquet(shared_data / "tcga_multimodal" / name / "clinical.parquet")
    time, event = columns(frame, "os_days", "os_event")
    assert suspect_unit(time, "days", BINS) == []
    assert suspect_event_coding(time, event) is None
    for _, site in frame.groupby("fed_site"):
        time, event = columns(site, "os_days", "os_event")
        assert not [s for s in suspect_unit(time, "days", BINS) if s.severity == "error"]
        suspicion = suspect_event_coding(time, event)
        assert suspicion is None or suspicion.severity == "warning"


@pytest.mark.shared_data
@pytest.mark.parametrize("name", TCGA)
def test_months_called_days_and_days_called_months_are_errors(name: str, shared_data: Path) -> None:
    frame = pd.read_parquet(shared_data / "tcga_multimodal" / name / "clinical.parquet")
    time, _ = columns(frame, "os_days", "os_event")
    assert [s.severity for s in suspect_unit(time / MONTH, "days", BINS)] == ["error"]
    for unit in ("months", "years"):
        assert "error" in [s.severity for s in suspect_unit(time, unit, BINS)]
    assert suspect_unit(time / MONTH, "months", BINS) == []
    assert suspect_unit(time / 365.25, "years", BINS) == []


@pytest.mark.parametrize("share", [0.2, 0.35, 0.5, 0.65, 0.8])
@pytest.mark.parametrize("name", ["gbsg2", "rossi"])
def test_whole_months_among_days_are_found(name: str, share: float) -> None:
    time, _ = lifelines_cohorts()[name]
    rng = np.random.default_rng(1)
    in_months = rng.random(time.size) < share
    mixed = np.where(in_months, np.maximum(np.round(time / MONTH), 1), np.round(time))
    found = share_of_smaller_unit(mixed)
    assert found == pytest.approx(in_months.mean(), abs=0.08)


def test_months_with_decimals_among_whole_days_are_found() -> None:
    time, _ = lifelines_cohorts()["lung"]
    in_months = np.arange(time.size) % 4 == 0
    found = share_of_smaller_unit(np.where(in_months, time / MONTH, time))
    assert found == pytest.approx(in_months.mean(), abs=0.02)


def test_few_patients_give_a_warning_only() -> None:
    short = np.linspace(1, 60, 12)
    assert [s.severity for s in suspect_unit(short, "days", BINS)] == ["warning"]
    assert suspect_unit(short, "days", Survival(bins=(30.0, 90.0), horizons=(60.0,))) == []


def test_no_times_no_suspicion() -> None:
    assert suspect_unit(np.zeros(0), "days", BINS) == []


@pytest.mark.parametrize("name", ["rossi", "gbsg2"])
def test_exchanged_events_are_errors_where_most_are_events_then(name: str) -> None:
    time, event = lifelines_cohorts()[name]
    suspicion = suspect_event_coding(time, 1 - event)
    assert suspicion is not None
    assert suspicion.severity == "error"


def test_exchanged_events_are_a_warning_where_events_are_the_minority() -> None:
    time, event = lifelines_cohorts()["larynx"]
    suspicion = suspect_event_coding(time, 1 - event)
    assert suspicion is not None
    assert suspicion.severity == "warning"


def test_rare_censoring_of_the_short_followed_is_an_error() -> None:
    time = np.concatenate([np.linspace(100, 400, 6), np.linspace(300, 3000, 94)])
    event = np.concatenate([np.zeros(6), np.ones(94)])
    suspicion = suspect_event_coding(time, event)
    assert suspicion is not None
    assert suspicion.severity == "error"
