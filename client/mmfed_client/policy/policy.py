"""``policy.toml``: the site's own limits, read strictly; an absent key has a safe default."""

from __future__ import annotations

import re
import tomllib
from datetime import datetime, time, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator

from mmfed_client.policy.violations import Violation, violations
from mmfed_common import messages as m
from mmfed_common.contract import Section
from mmfed_common.errors import PrivacyError
from mmfed_common.study import Study

Metric = Literal["num-examples", "loss", "seconds"]
Strategy = Literal["fedavg", "fedprox", "fedadam"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

Flag = Annotated[bool, Field(strict=True)]
Count = Annotated[int, Field(ge=1, strict=True)]
Limit = Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]

DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)")
MEGABYTE = 1_000_000


class Policy(Section):
    """What a site allows; ``docs/policy.md`` explains each key.

    The study may be stricter; the stricter of both holds.

    Attributes
    ----------
    minimum_patients
        Least training patients: below it the site sends no update and does not tell its size.
    minimum_cell
        Least held-out patients of which a sum of losses leaves.
    minimum_per_feature
        Least patients with a measured feature for its sums to leave.
    allow_moments
        Whether count, sum and sum of squares of features may leave (``normalisation = "federated"``).
    evaluation
        Whether sums of losses over held-out or validation patients may leave.
    metrics
        Which numbers may stand beside an update; one that is left out is sent as 0.
    strategies
        Strategies that may run.
    coordinators
        Fingerprints of coordinators' keys; empty: only the one this site enrolled with.
    most_rounds
        Most rounds of a study.
    most_answers_per_round
        How often the same question about the same round is answered; a server that was restarted asks again.
    hours, days
        When anything may run, by the site's local clock; a window over midnight belongs to the day it begins.
    largest_update_megabytes
        Largest message that may leave, in millions of bytes.
    gpu_memory
        Share of a GPU's memory that training may take.
    two_person
        Whether a study needs the approval of two people.
    peers
        Fingerprints of the sites with which this one's updates may be summed; empty: any that the coordinator
        names.
    hide_counts
        Whether the number of patients is not told: only with secure aggregation, where it is in the sum.
    require_privacy
        Whether a study must train with differential privacy.
    allow_shared_noise
        Whether this site's update may hold a share of the noise only, so that it is private in the sum alone.
    most_epsilon_per_study, most_epsilon_lifetime, largest_delta
        Weakest guarantee of one study; budget of all studies together; largest δ.
    """

    minimum_patients: Count = 5
    minimum_cell: Count = 10
    minimum_per_feature: Count = 5
    allow_moments: Flag = True
    evaluation: Flag = True
    metrics: tuple[Metric, ...] = ("num-examples", "loss", "seconds")
    strategies: tuple[Strategy, ...] = ("fedavg", "fedprox", "fedadam")
    coordinators: tuple[str, ...] = ()
    most_rounds: Count = 1000
    most_answers_per_round: Count = 25
    hours: str = "00:00-24:00"
    days: tuple[Day, ...] = DAYS
    largest_update_megabytes: Limit = 1000.0
    gpu_memory: Annotated[float, Field(gt=0, le=1, strict=True)] = 1.0
    two_person: Flag = False
    peers: tuple[str, ...] = ()
    hide_counts: Flag = False
    require_privacy: Flag = True
    allow_shared_noise: Flag = False
    most_epsilon_per_study: Limit = 8.0
    most_epsilon_lifetime: Limit = 16.0
    largest_delta: Annotated[float, Field(gt=0, lt=1, strict=True)] = 1e-5

    @field_validator("metrics")
    @classmethod
    def _counts_leave(cls, metrics: tuple[Metric, ...]) -> tuple[Metric, ...]:
        if m.NUM_EXAMPLES not in metrics:
            raise ValueError(f'"{m.NUM_EXAMPLES}" must be listed: updates are weighted with it')
        return metrics

    @field_validator("hours")
    @classmethod
    def _is_window(cls, hours: str) -> str:
        if not HOURS.fullmatch(hours) or len(set(hours.split("-"))) != 2:
            raise ValueError('must be like "22:00-06:00", by the site\'s local clock')
        return hours

    @staticmethod
    def load(path: Path) -> Policy:
        """Read ``policy.toml``.

        Raises
        ------
        PrivacyError
            ``MMF-320`` when it is not there or cannot be read, ``MMF-321`` when it is not valid.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise PrivacyError("MMF-320", "there is no policy.toml", str(path)) from None
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise PrivacyError("MMF-320", f"{reason}", str(path)) from None
        return Policy.from_text(text, str(path))

    @staticmethod
    def from_text(text: str, where: str = "") -> Policy:
        """Read the text of a ``policy.toml``; ``MMF-321`` when it is not valid."""
        try:
            return Policy.model_validate(tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise PrivacyError("MMF-321", f"not a TOML file: {error}", where) from None
        except ValidationError as error:
            lines = [f"{'.'.join(str(part) for part in e['loc'])}: {e['msg']}" for e in error.errors()]
            raise PrivacyError("MMF-321", "; ".join(lines), where) from None

    @property
    def people(self) -> int:
        """How many people must approve a study."""
        return 2 if self.two_person else 1

    @property
    def largest_update_bytes(self) -> int:
        """Largest message that may leave, in bytes."""
        return int(self.largest_update_megabytes * MEGABYTE)

    @cached_property
    def _window(self) -> tuple[time, time | None]:
        first, last = self.hours.split("-")
        return time.fromisoformat(first), None if last == "24:00" else time.fromisoformat(last)

    def is_open(self, now: datetime) -> bool:
        """Tell whether anything may run now; ``now`` has a time zone, the site's local one counts."""
        local = now.astimezone()
        begin, end = self._window
        at = local.time()
        if end is None or begin < end:
            return at >= begin and (end is None or at < end) and DAYS[local.weekday()] in self.days
        if at >= begin:
            return DAYS[local.weekday()] in self.days
        return at < end and DAYS[(local - timedelta(days=1)).weekday()] in self.days

    def violations(
        self,
        study: Study,
        coordinator_fingerprint: str,
        patients: int | None = None,
        now: datetime | None = None,
    ) -> list[Violation]:
        """Give every reason why this policy refuses a study; see :func:`~mmfed_client.policy.violations`."""
        return violations(self, study, coordinator_fingerprint, patients, now)
