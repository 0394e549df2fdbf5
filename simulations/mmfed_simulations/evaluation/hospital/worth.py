"""Is the federation worth it for a hospital? Each site alone, federated, and federated with its own head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from mmfed_common.metrics import Measured, bootstrap_counts, combine, paired_difference
from mmfed_common.metrics.estimate import Floats
from mmfed_common.study import Study
from mmfed_simulations.evaluation.arm_names import PERSONALISED
from mmfed_simulations.evaluation.hospital.labels import suspicious_labels
from mmfed_simulations.evaluation.hospital.scores import LOWER_IS_BETTER, MAIN, informative, site_metrics
from mmfed_simulations.evaluation.scores import scorable

ARMS = ("local", "federated", PERSONALISED)
PAIRS = (("federated", "local"), (PERSONALISED, "federated"), (PERSONALISED, "local"))
LEAST_PATIENTS, LEAST_EVENTS = 20, 10
"""Below these a site is shown and not judged: of few deaths a single pair moves the C-index by hundredths."""


def hospital_worth(
    study: Study, predictions: pd.DataFrame, personal: Sequence[Mapping[str, Any]] = ()
) -> dict[str, Any]:
    """Judge the federation at each site, on the site's own held-out patients.

    Parameters
    ----------
    predictions
        The table of predictions; the arms ``local``, ``federated`` and ``personalised``, as far as they are
        there.
    personal
        For each fold and site, which pull was chosen (``site``, ``pull``, ``train``).

    Returns
    -------
    dict
        ``least``: patients and events that a site needs to be judged. ``sites``: for each site and task the
        figures of each arm and their paired differences, on the patients that all its arms score.
        ``summary``: task → pair → metric → at how many of the judged sites the first arm is better, and the
        mean difference over these. ``labels``: see :func:`.site_labels.suspicious_labels`.
    """
    arms = [arm for arm in ARMS if (predictions["arm"] == arm).any()]
    measured: dict[str, list[_SiteTask]] = {task: [] for task in study.contract.tasks}
    sites = []
    for site in sorted(set(predictions["site"])):
        entry: dict[str, Any] = {"site": site, "tasks": {}}
        for task in study.contract.tasks:
            found = _SiteTask.of(study, predictions, site, task, arms)
            if found is not None:
                measured[task].append(found)
                entry["tasks"][task] = found.as_dict()
        pulls = [row["pull"] for row in personal if row["site"] == site]
        if pulls:
            moved = [pull for pull in pulls if pull is not None]
            entry["personal"] = {"folds": len(pulls), "moved": len(moved), "pulls": moved}
        sites.append(entry)
    return {
        "arms": arms,
        "least": {"patients": LEAST_PATIENTS, "events": LEAST_EVENTS},
        "sites": sites,
        "summary": {task: _summary(found) for task, found in measured.items() if found},
        "labels": suspicious_labels(study, predictions),
    }


class _SiteTask:
    """One task at one site: every arm on the same patients, with the same resamples."""

    def __init__(self, study: Study, site: str, task: str, rows: Mapping[str, pd.DataFrame]) -> None:
        self.site, self.task = site, task
        first = next(iter(rows.values()))
        contract = study.contract
        self.patients, self.events = len(first), informative(first, contract, task)
        self.shown = self.patients >= study.evaluation.minimum_cell
        self.metrics = {arm: site_metrics(one, contract, task) for arm, one in rows.items()}
        self.counts = bootstrap_counts(
            self.patients, study.evaluation.bootstrap, study.study.seed, "site", task, site
        )

    @staticmethod
    def of(
        study: Study, predictions: pd.DataFrame, site: str, task: str, arms: Sequence[str]
    ) -> _SiteTask | None:
        """Collect the rows of a site; None where no arm scores any of its patients."""
        rows = {}
        for arm in arms:
            own = predictions[(predictions["arm"] == arm) & (predictions["site"] == site)]
            own = own[scorable(own, task, study.contract)]
            if not own.empty:
                rows[arm] = own.set_index(["fold", "patient_id"], drop=False).sort_index(kind="stable")
        if not rows:
            return None
        common = set.intersection(*(set(one.index) for one in rows.values()))
        same = {a: one[one.index.isin(common)].reset_index(drop=True) for a, one in rows.items()}
        return _SiteTask(study, site, task, same) if common else None

    @property
    def judged(self) -> bool:
        """Whether the site has enough patients and events to say which arm is better."""
        enough = self.shown and self.patients >= LEAST_PATIENTS and self.events >= LEAST_EVENTS
        return enough and all(m[MAIN[self.task]].defined for m in self.metrics.values())

    def difference(self, first: str, second: str, metric: str) -> dict[str, Any]:
        """First minus second, with its interval."""
        one, two = self.metrics[first][metric], self.metrics[second][metric]
        return paired_difference({0: one}, {0: two}, {0: self.counts}).as_dict()

    def pairs(self) -> list[tuple[str, str]]:
        """Pairs of arms of which both are there."""
        return [pair for pair in PAIRS if all(arm in self.metrics for arm in pair)]

    def as_dict(self) -> dict[str, Any]:
        """Plain form for ``results.json``; no figure of fewer patients than the study's least cell."""
        content: dict[str, Any] = {"patients": self.patients, "events": self.events, "judged": self.judged}
        if not self.shown:
            return {**content, "figures": {}, "differences": {}}
        content["figures"] = {
            arm: {name: combine({0: one}, {0: self.counts}).as_dict() for name, one in metrics.items()}
            for arm, metrics in self.metrics.items()
        }
        content["differences"] = {
            f"{first}-{second}": {m: self.difference(first, second, m) for m in self.metrics[first]}
            for first, second in self.pairs()
        }
        return content


def _summary(found: Sequence[_SiteTask]) -> dict[str, Any]:
    """Pair of arms → metric → how many judged sites are better off with the first."""
    summary: dict[str, Any] = {}
    for pair in PAIRS:
        judged = [one for one in found if one.judged and pair in one.pairs()]
        metrics = list(next(iter(found[0].metrics.values())))
        if judged:
            summary["-".join(pair)] = {metric: _counted(judged, pair, metric) for metric in metrics}
    return summary


def _counted(judged: Sequence[_SiteTask], pair: tuple[str, str], metric: str) -> dict[str, Any]:
    first, second = pair
    sign = -1.0 if metric in LOWER_IS_BETTER else 1.0
    differences = [one.difference(first, second, metric) for one in judged]
    known = [d for d in differences if d["estimate"] is not None]
    better = sum(sign * d["estimate"] > 0 for d in known)
    bounded = [d for d in known if d["low"] is not None]
    interval = binomtest(better, len(known)).proportion_ci(method="wilson") if known else None
    measured: list[dict[Any, Measured]] = [
        {one.site: one.metrics[arm][metric] for one in judged} for arm in (first, second)
    ]
    counts: dict[Any, Floats] = {one.site: one.counts for one in judged}
    return {
        "judged": len(known),
        "better": better,
        "worse": sum(sign * d["estimate"] < 0 for d in known),
        "clearly_better": sum(min(sign * d["low"], sign * d["high"]) > 0 for d in bounded),
        "clearly_worse": sum(max(sign * d["low"], sign * d["high"]) < 0 for d in bounded),
        "share": better / len(known) if known else None,
        "low": None if interval is None else float(interval.low),
        "high": None if interval is None else float(interval.high),
        "mean": paired_difference(measured[0], measured[1], counts).as_dict(),
    }
