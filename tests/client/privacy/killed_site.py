"""A site that trains privately until it is killed, and is started again: one process forks it each time.

``python -m tests.client.privacy.killed_site HOME ROUNDS``: for each line on its standard input it starts a
site, prints its process id, waits for its end, and prints its exit status (-9 when it was killed). The number
of the process stays taken until the next line comes, so that nobody else can be killed by it.

A site's home holds the real ledger and the real secret. What the coordinator would keep, the weights after
each round, lies in ``weights.pt``; ``witness`` gets a line at the moment when a step's noise is about to be
made, for which the step must have been paid.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from tests.client.privacy.private_sites import private_site, private_study, start_of

from mmfed_client.home import SiteHome
from mmfed_client.ledger import Ledger
from mmfed_client.policy import Policy
from mmfed_client.privacy import train_private_round
from mmfed_client.privacy.secret import secret_of
from mmfed_client.privacy.spending import LedgerSpender
from mmfed_client.training import LocalSite
from mmfed_common.durable import replace_durably
from mmfed_common.privacy import PrivacyPlan
from mmfed_common.schedule import Place
from mmfed_common.study import Study

POLICY = Policy.from_text("largest_delta = 0.01\n")
PATIENTS = 40


def study_of(rounds: int) -> Study:
    """Some rounds of a few small steps."""
    return private_study(
        training={"stages": [{"level": "clinical", "rounds": rounds}], "batch": 8, "local_epochs": 1}
    )


def plan_of(study: Study) -> PrivacyPlan:
    """What the site does in each of them."""
    return PrivacyPlan.of(study, len(private_site(study, PATIENTS).fit))


@dataclass
class Witnessed:
    """Writes down when a step that was paid for is made."""

    spender: LedgerSpender
    witness: int

    @property
    def plan(self) -> PrivacyPlan:
        return self.spender.plan

    def before_step(self, round: int, step: int, inputs: bytes) -> None:
        self.spender.before_step(round, step, inputs)
        os.write(self.witness, f"{round} {step}\n".encode())

    def before_release(self, mechanism: object, inputs: bytes) -> None:
        raise NotImplementedError

    def reconcile(self, round: int, inputs: bytes, steps: int) -> None:
        self.spender.reconcile(round, inputs, steps)


def work(folder: Path, site: LocalSite, plan: PrivacyPlan) -> None:
    """Train the rounds that are not done yet, each from the weights of the one before."""
    home, study = SiteHome(folder), site.study
    kept = folder / "weights.pt"
    done, weights = torch.load(kept) if kept.exists() else (0, start_of(site))
    spender = LedgerSpender(Ledger(home.ledger_file), study, POLICY, plan)
    witness = os.open(folder / "witness", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in range(done + 1, study.training.rounds + 1):
        place = Place.of(study.training, number)
        means = Witnessed(spender, witness)
        update = train_private_round(site, weights, site.scaling(None), place, 0.0, means, secret_of(home))
        weights = {**weights, **update.trained}
        state = (number, weights)
        replace_durably(kept, lambda file, state=state: torch.save(state, file))  # type: ignore[misc]


def serve(folder: Path, rounds: int) -> None:
    """Start a site for each line."""
    study = study_of(rounds)
    plan = plan_of(study)
    torch.set_num_threads(1)
    site = private_site(study, PATIENTS)
    while sys.stdin.readline():
        child = os.fork()
        if child == 0:
            status = 1
            try:
                work(folder, site, plan)
                status = 0
            finally:
                os._exit(status)
        print(child, flush=True)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        print("ended", flush=True)
        sys.stdin.readline()
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
