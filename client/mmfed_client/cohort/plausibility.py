"""Whether follow-up times and events can be what they are said to be.

Nothing here changes a value. The thresholds were set so that TCGA (BRCA, LUAD, KIRC, BLCA, SKCM, and each
of their larger sites), NCCTG lung, veteran, WHAS500, GBSG2 and heart-failure data pass, and days mixed with
months at 15 to 80 % are found in most of them; docs/cohort.md states each rule for the person who must act.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from mmfed_common.contract import Survival

Values = npt.NDArray[np.float64]

DAYS = {"days": 1.0, "weeks": 7.0, "months": 30.4375, "years": 365.25}
LEAST_PATIENTS = 20
"""Below so many patients a suspicion is a warning, never an error."""

SHORT_FOLLOW_UP, SHORT_LONGEST, SEVERAL_YEARS = 200.0, 400.0, 1095.0
MIX_PATIENTS, MIX_SHARE, MIX_SPREAD, MIX_GAIN, MIX_TOTAL = 50, 0.15, 1.14, 0.03, 10.0
EVENT_PATIENTS, EVENT_GROUP, EVENT_CORRELATION = 30, 5, 0.25
RARELY_CENSORED, MUCH_LONGER = 0.9, 1.5


@dataclass(frozen=True)
class Suspicion:
    """Something implausible: a sentence, whether it stops the study, and how many rows show it."""

    what: str
    severity: str
    count: int


def suspect_unit(raw: Values, unit: str, survival: Survival) -> list[Suspicion]:
    """Ask whether times can be in the unit they are said to be in.

    Parameters
    ----------
    raw
        ``(patients,)`` known, finite, non-negative times as the table gives them.
    unit
        ``days``, ``weeks``, ``months`` or ``years``.
    survival
        The contract's bins and longest follow-up, in days.
    """
    if not raw.size:
        return []
    days = raw * DAYS[unit]
    severity = "error" if raw.size >= LEAST_PATIENTS else "warning"
    found = []
    beyond = int((days > survival.longest).sum())
    if beyond and unit != "days":
        what = f"read as {unit}, {beyond} time(s) are longer than {survival.longest:g} days"
        found.append(Suspicion(what, "error", beyond))
    last, most = float(np.quantile(days, 0.9)), float(days.max())
    short = last < SHORT_FOLLOW_UP and most < SHORT_LONGEST
    if unit == "days" and short and survival.bins[-1] >= SEVERAL_YEARS:
        what = (
            f"read as days, nine of ten follow-ups end before {last:.0f} days and the longest is {most:.0f}, "
            f"while the study's bins reach {survival.bins[-1]:g} days; they may be months"
        )
        found.append(Suspicion(what, severity, int(raw.size)))
    if float(np.median(days)) > survival.bins[-1]:
        what = f"read as {unit}, more than half of the times are beyond the study's last bin"
        found.append(Suspicion(what, "warning", int((days > survival.bins[-1]).sum())))
    mixed = share_of_smaller_unit(days)
    if mixed is not None:
        enough = raw.size >= MIX_PATIENTS
        what = f"about {mixed:.0%} of the times lie some 30 times below the others: days and months mixed?"
        found.append(Suspicion(what, "error" if enough else "warning", round(mixed * raw.size)))
    return found


def share_of_smaller_unit(days: Values) -> float | None:
    """Estimate which share of times is in months where the others are in days; ``None`` if none seems to be.

    Two rules. Fractions: at least a tenth of the times has decimals, at least a tenth has none, and the
    median of the whole ones is ten times that of the others. Mixture: two log-normal groups of equal spread
    whose medians differ by 30.4 explain the times better than one log-normal or one Weibull group (by 0.03
    a patient and 10 in log-likelihood), the smaller group holds at least 15 %, and the spread is below 1.14,
    so that the groups are three deviations apart.
    """
    positive = days[days > 0]
    if positive.size < LEAST_PATIENTS:
        return None
    whole = np.isclose(positive, np.round(positive), rtol=0, atol=1e-9)
    if 0.1 <= whole.mean() <= 0.9 and np.median(positive[whole]) >= 10 * np.median(positive[~whole]):
        return float(1 - whole.mean())
    logs = np.log(positive)
    share, spread, likelihood = _shifted_mixture(logs, float(np.log(DAYS["months"])))
    gain = likelihood - max(_normal_likelihood(logs), _smallest_value_likelihood(logs))
    mixed = MIX_SHARE <= share <= 1 - MIX_SHARE and spread <= MIX_SPREAD
    return share if mixed and gain >= max(MIX_GAIN * logs.size, MIX_TOTAL) else None


def _shifted_mixture(logs: Values, shift: float) -> tuple[float, float, float]:
    """Fit normal groups of equal spread at ``m`` and ``m - shift``: share below, spread, likelihood."""
    best = (0.0, 1.0, -np.inf)
    for quantile in (0.5, 0.7, 0.9):
        centre, spread, share = float(np.quantile(logs, quantile)), float(logs.std()) * 0.6 + 0.1, 0.3
        for _ in range(200):
            below = np.log(share) - 0.5 * ((logs - centre + shift) / spread) ** 2
            above = np.log1p(-share) - 0.5 * ((logs - centre) / spread) ** 2
            is_below = 1 / (1 + np.exp(np.clip(above - below, -500, 500)))
            share = float(np.clip(is_below.mean(), 1e-4, 1 - 1e-4))
            moved = logs + is_below * shift
            centre = float(moved.mean())
            squares = is_below * (logs + shift - centre) ** 2 + (1 - is_below) * (logs - centre) ** 2
            spread = max(float(np.sqrt(squares.mean())), 0.05)
        below = np.log(share) - 0.5 * ((logs - centre + shift) / spread) ** 2
        above = np.log1p(-share) - 0.5 * ((logs - centre) / spread) ** 2
        total = float((np.logaddexp(below, above) - np.log(spread) - 0.5 * np.log(2 * np.pi)).sum())
        if total > best[2]:
            best = (share, spread, total)
    return best


def _normal_likelihood(logs: Values) -> float:
    spread = max(float(logs.std()), 0.05)
    scaled = (logs - logs.mean()) / spread
    return float((-0.5 * scaled**2 - np.log(spread) - 0.5 * np.log(2 * np.pi)).sum())


def _smallest_value_likelihood(logs: Values) -> float:
    """Fit a Weibull to the times, on the log scale, by fixed-point iteration of its shape."""
    centred = logs - logs.max()
    shape = 1.28 / max(float(logs.std()), 0.05)
    for _ in range(100):
        weight = np.exp(shape * centred)
        slope = (weight * centred).sum() / weight.sum() - centred.mean()
        shape = 0.5 * (shape + 1 / max(float(slope), 1e-3))
    level = np.log(np.exp(shape * centred).mean()) / shape
    scaled = shape * (centred - level)
    return float((np.log(shape) + scaled - np.exp(scaled)).sum())


def suspect_event_coding(time: Values, event: Values) -> Suspicion | None:
    """Ask whether events and censorings may be exchanged.

    In a followed cohort the longest times are mostly censored. The reverse is suspected when patients with
    the event are the majority and have systematically the longer follow-up (Spearman correlation of time
    and event ≥ 0.25; with a minority of events it is a warning), or when more than 90 % have the event and
    their median time is 1.5 times that of the censored. A reversal that leaves no such trace is not found.

    Parameters
    ----------
    time, event
        ``(patients,)`` known follow-up in any unit, and 0/1.
    """
    happened = event == 1
    groups = int(happened.sum()), int((~happened).sum())
    if time.size < EVENT_PATIENTS or min(groups) < EVENT_GROUP:
        return None
    rate = float(happened.mean())
    correlation = _rank_correlation(time, event)
    longer = float(np.median(time[happened])) >= MUCH_LONGER * float(np.median(time[~happened]))
    if correlation >= EVENT_CORRELATION or (rate > RARELY_CENSORED and longer):
        what = (
            f"{rate:.0%} have the event, and those who have it were followed longer than those who have not "
            f"(rank correlation {correlation:+.2f}); in most cohorts it is the other way round"
        )
        return Suspicion(what, "error" if rate >= 0.5 else "warning", groups[0])
    return None


def _rank_correlation(a: Values, b: Values) -> float:
    ranks = [pd.Series(values).rank().to_numpy() for values in (a, b)]
    centred = [values - values.mean() for values in ranks]
    scale = float(np.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum()))
    return float((centred[0] * centred[1]).sum()) / scale if scale else 0.0
