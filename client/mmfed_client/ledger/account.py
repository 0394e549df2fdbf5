"""What a ledger says was spent: the entries about privacy, added up as they are read.

- ``privacy-plan``: a round begins. The study's ε and δ, the number of patients, the noise, the rate, how many
  steps are planned, and a name of everything that the round's results depend on (``inputs``); where the noise
  is shared, of how many sites it is at least, and how many others may help the coordinator.
- ``privacy-step``: one step of a plan is about to be made. It is paid from here on, whatever happens.
- ``privacy-release``: something else that costs, noisy sums of features, is about to be computed.
- ``privacy-round``: a round is done and took exactly the steps that were paid.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from mmfed_common.errors import PrivacyError
from mmfed_common.ledger import Entry
from mmfed_common.mechanism import Mechanism
from mmfed_common.privacy import composed

PLAN = "privacy-plan"
STEP = "privacy-step"
RELEASE = "privacy-release"
ROUND = "privacy-round"
PRIVACY_KINDS = frozenset({PLAN, STEP, RELEASE, ROUND})


@dataclass
class PaidRound:
    """The steps that were paid by one plan.

    Attributes
    ----------
    plan
        The number of the plan's entry.
    mechanism
        One step of it.
    steps
        Which steps, counted from 0.
    """

    plan: int
    study: str
    round: int
    mechanism: Mechanism
    steps: set[int] = field(default_factory=set)


@dataclass
class StudyAccount:
    """What one study spent.

    Attributes
    ----------
    epsilon, delta, patients
        As its last entry gives them.
    steps, rounds
        Steps that were paid, and the number of the last round that was done.
    done
        The round whose end is the study's last entry; None while something is under way.
    honest_sites, colluding_sites
        Where the noise was shared: of how few sites it was at least, and how many others might help the
        coordinator; 0 and 0 where the site added all of it.
    """

    study: str
    epsilon: float
    delta: float
    patients: int
    rounds: int = 0
    done: int | None = None
    honest_sites: int = 0
    colluding_sites: int = 0
    paid: list[PaidRound] = field(default_factory=list)
    releases: dict[str, Mechanism] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Training steps that were paid."""
        return sum(len(paid.steps) for paid in self.paid)

    @property
    def spent(self) -> tuple[Mechanism, ...]:
        """Everything that was paid."""
        return composed(self._mechanisms())

    def _mechanisms(self) -> Iterator[Mechanism]:
        yield from self.releases.values()
        for paid in self.paid:
            one = paid.mechanism
            yield Mechanism(one.noise_multiplier, one.sample_rate, len(paid.steps))


class PrivacyAccount:
    """What a ledger says was spent, by all studies of the site."""

    def __init__(self) -> None:
        self.studies: dict[str, StudyAccount] = {}
        self.payments = 0
        """Steps and other releases that were paid, by all studies together."""
        self._plans: dict[int, PaidRound] = {}
        self._rounds: dict[tuple[str, int, str, Mechanism], PaidRound] = {}

    def spent(self, but: str | None = None) -> tuple[Mechanism, ...]:
        """Everything that was paid, by all studies but one."""
        return composed(m for hash_, study in self.studies.items() if hash_ != but for m in study.spent)

    def least_delta(self, *more: float) -> float:
        """The smallest δ of all studies and of these: at it the loss of all of them together is told."""
        return min([*more, *(study.delta for study in self.studies.values())])

    def of(self, study: str) -> StudyAccount | None:
        """What one study spent; None where it has spent nothing."""
        return self.studies.get(study)

    def round(self, study: str, number: int, inputs: str, mechanism: Mechanism) -> PaidRound | None:
        """What was paid for a round from these inputs with this mechanism, whose steps do not count."""
        return self._rounds.get((study, number, inputs, _one(mechanism)))

    def take_in(self, entry: Entry) -> None:
        """Add an entry of the ledger.

        Raises
        ------
        PrivacyError
            ``MMF-310`` when it is about privacy and not of its form: then nothing may be believed.
        """
        if entry.kind not in PRIVACY_KINDS:
            return
        try:
            self._add(entry)
        except (KeyError, TypeError, ValueError):
            what = f"entry {entry.number}, {entry.kind}, is not of its form"
            raise PrivacyError("MMF-310", what) from None

    def _add(self, entry: Entry) -> None:
        body = entry.body
        if entry.kind == PLAN:
            study = self._study(entry)
            mechanism = Mechanism(float(body["noise"]), float(body["rate"]), 1)
            number = int(body["round"])
            paid = PaidRound(entry.number, study.study, number, mechanism)
            study.paid.append(paid)
            if "honest_sites" in body:
                honest = int(body["honest_sites"])
                study.honest_sites = min(honest, study.honest_sites or honest)
                study.colluding_sites = int(body["colluding_sites"])
            self._plans[entry.number] = paid
            self._rounds[study.study, number, str(body["inputs"]), mechanism] = paid
        elif entry.kind == RELEASE:
            study = self._study(entry)
            mechanism = Mechanism(float(body["noise"]), float(body["rate"]), int(body["steps"]))
            study.releases[f"{body['inputs']} {mechanism}"] = mechanism
            self.payments += 1
        else:
            paid = self._plans[int(body["plan"])]
            study = self.studies[paid.study]
            if entry.kind == STEP:
                study.done = None
                self.payments += 1
                paid.steps.add(int(body["step"]))
            else:
                study.done, study.rounds = paid.round, max(paid.round, study.rounds)

    def released(self, study: str, inputs: str, mechanism: Mechanism) -> bool:
        """Whether something that is not a step was paid already."""
        account = self.studies.get(study)
        return account is not None and f"{inputs} {mechanism}" in account.releases

    def _study(self, entry: Entry) -> StudyAccount:
        body = entry.body
        terms = (float(body["epsilon"]), float(body["delta"]), int(body["patients"]))
        study = self.studies.setdefault(str(body["study"]), StudyAccount(str(body["study"]), *terms))
        study.epsilon, study.delta, study.patients = terms
        study.done = None
        return study


def account_of(entries: Iterable[Entry]) -> PrivacyAccount:
    """Add up the entries of a ledger."""
    account = PrivacyAccount()
    for entry in entries:
        account.take_in(entry)
    return account


def _one(mechanism: Mechanism) -> Mechanism:
    return Mechanism(mechanism.noise_multiplier, mechanism.sample_rate, 1)
