"""A site leaves a running study, and the run is trained again without it: real processes over real TLS."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.consortium import OnDisk, write_consortium

from mmfed_common.bundle import load_bundle
from mmfed_common.study import Study
from mmfed_simulations.consortium import load_consortium
from mmfed_simulations.processes.federation import Federation
from mmfed_simulations.processes.programs import wait_until
from mmfed_simulations.run import run_study

LONG, SHORT = 900, 120
"""Rounds: more than the test takes; and enough for a site to come before the last."""
SECONDS = 240.0

pytestmark = pytest.mark.timeout(1800)


def consortium(folder: Path, rounds: int) -> OnDisk:
    """Three sites; two are enough for a round. Without sums of features, so that rounds can be taken over."""
    found = write_consortium(folder / "consortium", rounds, sites=3)
    text = found.study.read_text(encoding="utf-8")
    text = re.sub(r"^minimum_sites = .*$", "minimum_sites = 2", text, flags=re.MULTILINE)
    text, count = re.subn(r"^normalisation = .*$", 'normalisation = "reference"', text, flags=re.MULTILINE)
    assert count
    found.study.write_text(text, encoding="utf-8")
    return found


def typed(federation: Federation, *words: str) -> dict[str, Any]:
    """What a command of the coordinator prints as JSON."""
    done = federation.type("coordinator", "mmfed-server", *words, "--json", "--dir", str(federation.home))
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def of_site(federation: Federation, site: str) -> dict[str, Any]:
    """A site as the server's status shows it."""
    return next(entry for entry in federation.status()["sites"] if entry["site"] == site)


def begun(federation: Federation, late: str, stay: list[str]) -> None:
    """A run in which one site comes some rounds after the others, and contributes."""
    federation.found()
    federation.start_server()
    federation.wait_for_server()
    for site in stay:
        federation.join(site)
        federation.approve(site)
        federation.start_site(site)
    federation.join(late)
    federation.approve(late)
    wait_until(lambda: federation.status()["round"] >= 3, SECONDS, "rounds without the late site")
    federation.start_site(late)
    wait_until(lambda: of_site(federation, late)["rounds"] >= 2, SECONDS, "rounds with the late site")


def test_a_site_that_leaves_is_refused_listed_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = consortium(tmp_path, LONG)
    late, *stay = there.cohorts
    with Federation(tmp_path / "real", there.cohorts, there.study) as federation:
        begun(federation, late, stay)
        home = ("--home", str(federation.site_home(late)))
        told = json.loads(federation.type(late, "mmfed-client", "withdraw", "--json", *home).stdout)
        assert told["stopped"]
        assert of_site(federation, late)["withdrawn"]
        assert late not in federation.status()["missing"]
        at = federation.status()["round"] + 1  # whose updates may have been on their way to the disk
        wait_until(lambda: federation.status()["round"] > at, SECONDS, "a round after the site left")
        counted = of_site(federation, late)["rounds"]
        wait_until(lambda: federation.status()["round"] > at + 2, SECONDS, "rounds after the site left")
        assert of_site(federation, late)["rounds"] == counted

        old = federation.status()["run"]
        (listed,) = typed(federation, "runs", "contributions", late)["runs"]
        assert (listed["run"], len(listed["rounds"])) == (old, counted)
        assert listed["withdrawn"]
        assert max(listed["rounds"]) <= at
        export = tmp_path / "ledger.jsonl"
        federation.type(late, "mmfed-client", "ledger", "export", str(export), *home)
        assert typed(federation, "runs", "contributions", late, "--ledger", str(export))["ledger"]
        words = ("ledger", "show", "--study", listed["study_hash"], *home)
        shown = federation.type(late, "mmfed-client", *words).stdout
        assert "× train" in shown
        assert "left study" in shown

        federation.approve(late)  # it changes its mind: the coordinator must let it back
        began = time.monotonic()
        wait_until(lambda: federation.site_status(late).get("code") == "MMF-560", SECONDS, "the site is told")
        told_after = time.monotonic() - began
        assert of_site(federation, late)["rounds"] == counted
        typed(federation, "runs", "readmit", old, "--site", late)
        wait_until(
            lambda: of_site(federation, late)["rounds"] > counted, SECONDS, "an update after it came back"
        )
        typed(federation, "runs", "withdraw", old, "--site", late, "--reason", "second thoughts")

        made = typed(federation, "runs", "replay", old, "--without", late)
        assert made["from_round"] == listed["first_round"] > 3
        began = time.monotonic()
        wait_until(lambda: federation.status()["run"] == made["run"], SECONDS, "the run that replaces it")
        switched = time.monotonic() - began
        wait_until(
            lambda: federation.status()["round"] > made["from_round"],
            SECONDS,
            "rounds of the run that replaces it",
        )
        assert late not in {
            entry["site"] for entry in typed(federation, "runs", "show", made["run"])["sites"]
        }
    with capsys.disabled():
        print(f"\n  {late} was in rounds {listed['rounds'][0]} to {listed['rounds'][-1]}, and then in none")
        print(f"  it was told {told_after:.1f} s after it approved again")
        print(f"  the running server went over to the new run {switched:.1f} s after `runs replay`")


@pytest.mark.e2e
def test_a_finished_run_is_trained_again_without_a_site_over_a_kill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = consortium(tmp_path, SHORT)
    late, *stay = there.cohorts
    with Federation(tmp_path / "real", there.cohorts, there.study) as federation:
        begun(federation, late, stay)
        federation.wait_for("finished", SECONDS)
        old = federation.status()["run"]
        typed(federation, "runs", "withdraw", old, "--site", late)
        (listed,) = typed(federation, "runs", "contributions", late)["runs"]
        words = ("--dir", str(federation.home))
        done = federation.type(
            "coordinator", "mmfed-server", "export", old, "--out", str(tmp_path / "a"), *words
        )
        assert "MMF-563" in done.stderr

        made = typed(federation, "runs", "replay", old, "--without", late)
        assert made["from_round"] == listed["first_round"] > 3
        wait_until(
            lambda: (
                federation.status()["round"] > made["from_round"]
                and federation.status()["run"] == made["run"]
            ),
            SECONDS,
            "rounds of the run that replaces it",
        )
        assert federation.server is not None
        federation.server.kill()
        federation.start_server()
        federation.wait_for_server()
        federation.wait_for("finished", SECONDS)
        assert federation.status()["run"] == made["run"]

        federation.release(tmp_path / "new")
        card = (tmp_path / "new" / "model_card.md").read_text(encoding="utf-8")
        assert f"Trained again without {late}; it replaces run {old}." in card
        done = federation.type(
            "coordinator", "mmfed-server", "export", old, "--out", str(tmp_path / "b"), *words
        )
        assert "MMF-563" in done.stderr
        assert "MMF-564" in done.stderr
        assert "do not use this model" in (tmp_path / "b" / "model_card.md").read_text(encoding="utf-8")
        (listed,) = typed(federation, "runs", "contributions", late)["runs"]
        assert listed["superseded_by"] == made["run"]

    study = Study.load(there.study)
    everybody = load_consortium(there.study.parent, study, there.study.parent).sites()
    never = run_study(study, [site for site in everybody if site.name != late], tmp_path / "never")
    state = load_bundle(tmp_path / "new").state
    assert all(never.state[name].equal(tensor) for name, tensor in state.items())
    with capsys.disabled():
        print(
            f"\n  trained again from round {made['from_round']}, over a kill of the server: the weights are"
        )
        print("  those of a run that the site was never part of, bit for bit")
