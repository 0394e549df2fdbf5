"""What was spent and what is left, in words that a privacy officer understands."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mmfed_client.ledger import Ledger
from mmfed_client.ledger.account import StudyAccount
from mmfed_client.policy import Policy
from mmfed_common.privacy import ACCOUNTANT, MECHANISM, UNIT, epsilon_of
from mmfed_common.study import Study


@dataclass(frozen=True)
class StudySpending:
    """What one study spent.

    Attributes
    ----------
    study, name
        Its hash, and the name under which it was approved.
    spent, promised
        ε that was spent, and what the study promised to stay within; at ``delta``.
    patients
        Training patients whom it concerns.
    steps
        Noisy training steps that were paid.
    rounds
        The last round that was done.
    honest_sites, colluding_sites
        Where the noise was shared: of how few sites it was at least, and how many others might help the
        coordinator; 0 and 0 where this site added all of it.
    """

    study: str
    name: str
    spent: float
    promised: float
    delta: float
    patients: int
    steps: int
    rounds: int
    honest_sites: int = 0
    colluding_sites: int = 0

    @property
    def text(self) -> str:
        """One sentence; two where the noise was shared."""
        return self._amounts + (f" {self._shared}" if self.honest_sites else "")

    @property
    def _shared(self) -> str:
        return (
            f"The noise is shared by {self.honest_sites} sites or more: ε holds for the masked sums and the "
            f"model, while no more than {self.colluding_sites} of a round's sites help the coordinator or "
            "leave their share out."
        )

    @property
    def _amounts(self) -> str:
        return (
            f"{self.name} {self.study[:12]}: ε = {up(self.spent)} of {self.promised:g} is spent "
            f"({down(self.promised - self.spent)} left) at δ = {self.delta:g}, for each of "
            f"{self.patients} patients; {self.steps} noisy steps up to round {self.rounds}."
        )


@dataclass(frozen=True)
class Spending:
    """What all studies of a site spent.

    Attributes
    ----------
    spent, delta
        ε of all studies together, at the smallest δ of any of them; 0 and 0 before the first.
    most
        The policy's limit for the site's lifetime; None where there is no valid policy.
    unpaid
        Studies without differential privacy for which something left, as they are called: no ε holds for
        their patients.
    """

    studies: tuple[StudySpending, ...]
    spent: float
    delta: float
    most: float | None
    unpaid: tuple[str, ...] = ()

    @property
    def left(self) -> float | None:
        """What the site's lifetime has left; None where there is no limit to compare with."""
        return None if self.most is None else max(self.most - self.spent, 0.0)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for a program."""
        return {
            "studies": [asdict(study) for study in self.studies],
            "lifetime": {"spent": self.spent, "delta": self.delta, "most": self.most, "left": self.left},
            "without_privacy": list(self.unpaid),
            "unit": UNIT,
            "mechanism": MECHANISM,
            "accountant": ACCOUNTANT,
        }

    def sentences(self) -> Iterator[str]:
        """A sentence for each study, one for all of them, and what the numbers mean."""
        yield from self.warning()
        if not self.studies:
            return
        for study in self.studies:
            yield study.text
        limit = (
            "; no policy limits it"
            if self.most is None
            else f" of {self.most:g}, {down(self.left or 0.0)} left"
        )
        together = f"ε = {up(self.spent)}{limit}, at δ = {self.delta:g}"
        which = "with differential privacy " if self.unpaid else ""
        yield f"All studies {which}of this site together, since its ledger begins: {together}."
        yield (
            f"The unit is {UNIT}: whoever sees everything that left for these studies learns almost the same "
            f"whether a patient was among them or not; the smaller ε, the nearer to the same. Mechanism: "
            f"{MECHANISM}. Accountant: {ACCOUNTANT}."
        )

    def warning(self) -> Iterator[str]:
        """A sentence on the studies without differential privacy, where there were any."""
        if not self.unpaid:
            return
        one = len(self.unpaid) == 1
        yield (
            f"{len(self.unpaid)} {'study' if one else 'studies'} without differential privacy took something "
            f"from this site: {', '.join(self.unpaid)}. For the patients whom {'it' if one else 'they'} "
            "used no ε holds, whatever is spent or left."
        )


def spending_of(ledger: Ledger, policy: Policy | None) -> Spending:
    """Add up what a ledger says was spent.

    Raises
    ------
    PrivacyError
        ``MMF-310`` to ``MMF-312`` when the ledger cannot be believed or read.
    """
    account = ledger.privacy()
    names = names_of(ledger)
    studies = tuple(_spent(study, names) for study in account.studies.values())
    most = None if policy is None else policy.most_epsilon_lifetime
    unpaid = tuple(called(study, names) for study in ledger.unpaid())
    if not studies:
        return Spending((), 0.0, 0.0, most, unpaid)
    delta = account.least_delta()
    return Spending(studies, epsilon_of(account.spent(), delta), delta, most, unpaid)


def names_of(ledger: Ledger) -> dict[str, str]:
    """Study → the name under which it was approved last."""
    return {e.body["study"]: str(e.body["name"]) for e in ledger.decisions() if e.kind == "approval"}


def called(study: str, names: Mapping[str, str]) -> str:
    """A study's name and the beginning of its hash."""
    return f"{names.get(study, 'a study')} {study[:12]}"


def outlook(ledger: Ledger, study: Study, policy: Policy) -> str:
    """Say what a study would spend of what is left, before the number of patients is known."""
    found = spending_of(ledger, policy)
    epsilon, before = (
        study.privacy.epsilon or 0.0,
        next((s for s in found.studies if s.study == study.hash), None),
    )
    begun = "" if before is None else f" (ε = {up(before.spent)} of it is spent)"
    at = f" at δ = {found.delta:g}" if found.studies else ""
    after = max(policy.most_epsilon_lifetime - found.spent - epsilon + (before.spent if before else 0.0), 0.0)
    return (
        f"This study may spend up to ε = {epsilon:g}{begun}. All studies together have spent "
        f"ε = {up(found.spent)} of {policy.most_epsilon_lifetime:g}{at}; after this study at least "
        f"{down(after)} would be left. `mmfed-client check` counts the patients and says exactly."
        + "".join(f" {sentence}" for sentence in found.warning())
    )


def up(epsilon: float) -> str:
    """An ε that was spent, to two digits: never less than it was."""
    return f"{math.ceil(epsilon * 100) / 100:.2f}"


def down(epsilon: float) -> str:
    """An ε that is left, to two digits: never more than it is, and never below 0."""
    return f"{max(math.floor(epsilon * 100), 0) / 100:.2f}"


def entry_in_words(kind: str, body: Mapping[str, Any]) -> str | None:
    """An entry about privacy in one line; None for another kind."""
    study = str(body.get("study", ""))[:12]
    if kind == "privacy-plan":
        return (
            f"round {body['round']} of study {study}: {body['steps']} noisy steps begin, each with noise "
            f"{body['noise']:g} and each of {body['patients']} patients with probability {body['rate']:.3g}; "
            f"the study may spend ε = {body['epsilon']:g} at δ = {body['delta']:g}{_of_whom(body)}"
        )
    if kind == "privacy-step":
        return f"step {body['step'] + 1} of entry {body['plan']} is paid"
    if kind == "privacy-release":
        return f"noisy sums of features of study {study} are paid: noise {body['noise']:g}"
    if kind == "privacy-round":
        return f"entry {body['plan']} is done: it took the steps that were paid"
    return None


def _of_whom(body: Mapping[str, Any]) -> str:
    if "honest_sites" not in body:
        return ""
    return (
        f"; the noise is that of {body['honest_sites']} sites together, if no more than "
        f"{body['colluding_sites']} help the coordinator"
    )


def _spent(study: StudyAccount, names: Mapping[str, str]) -> StudySpending:
    return StudySpending(
        study.study,
        names.get(study.study, "a study"),
        epsilon_of(study.spent, study.delta),
        study.epsilon,
        study.delta,
        study.patients,
        study.steps,
        study.rounds,
        study.honest_sites,
        study.colluding_sites,
    )
