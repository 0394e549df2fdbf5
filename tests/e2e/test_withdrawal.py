"""A site leaves a running study, and the run is trained again without it: real processes over real TLS."""

from __future__ import annotations

import json
import re
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

ROUNDS = 240
SECONDS = 240.0
TOLD_SECONDS = 120.0


@pytest.fixture
def there(tmp_path: Path) -> OnDisk:
    """Three sites; two are enough for a round. Without sums of features, so that rounds can be taken over."""
    found = write_consortium(tmp_path / "consortium", ROUNDS, sites=3)
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


def test_a_late_site_leaves_and_the_run_is_trained_again_without_it(
    tmp_path: Path, there: OnDisk, capsys: pytest.CaptureFixture[str]
) -> None:
    late, *stay = there.cohorts
    lines = []
    with Federation(tmp_path / "real", there.cohorts, there.study) as federation:
        federation.found()
        federation.start_server()
        federation.wait_for_server()
        for site in stay:
            federation.join(site)
            federation.approve(site)
            federation.start_site(site)
        wait_until(lambda: federation.status()["round"] >= 3, SECONDS, "rounds without the late site")
        federation.join(late)
        federation.approve(late)
        federation.start_site(late)
        wait_until(lambda: of_site(federation, late)["rounds"] >= 2, SECONDS, "rounds with the late site")

        home = ("--home", str(federation.site_home(late)))
        told = json.loads(federation.type(late, "mmfed-client", "withdraw", "--json", *home).stdout)
        assert told["stopped"]
        assert of_site(federation, late)["withdrawn"]
        assert late not in federation.status()["missing"]
        counted, at = of_site(federation, late)["rounds"], federation.status()["round"]
        wait_until(lambda: federation.status()["round"] >= at + 3, SECONDS, "rounds after the site left")
        assert of_site(federation, late)["rounds"] <= counted + 1  # one may have been on the way to the disk

        old = federation.status()["run"]
        (listed,) = typed(federation, "runs", "contributions", late)["runs"]
        assert (listed["run"], len(listed["rounds"])) == (old, of_site(federation, late)["rounds"])
        assert listed["withdrawn"]
        export = tmp_path / "ledger.jsonl"
        federation.type(late, "mmfed-client", "ledger", "export", str(export), *home)
        assert typed(federation, "runs", "contributions", late, "--ledger", str(export))["ledger"]
        shown = federation.type(
            late, "mmfed-client", "ledger", "show", "--study", listed["study_hash"], *home
        ).stdout
        assert "× train" in shown
        assert "left study" in shown
        lines.append(f"{late} contributed to rounds {listed['rounds'][0]} to {listed['rounds'][-1]}")

        federation.approve(late)  # it changes its mind: the coordinator must let it back
        wait_until(
            lambda: federation.site_status(late).get("code") == "MMF-560", TOLD_SECONDS, "the site is told"
        )

        made = typed(federation, "runs", "replay", old, "--without", late)
        assert made["from_round"] == listed["first_round"] > 3
        wait_until(lambda: federation.status()["run"] == made["run"], SECONDS, "the run that replaces it")
        assert federation.server is not None
        federation.server.kill()
        federation.start_server()
        federation.wait_for_server()
        federation.wait_for("finished", SECONDS)
        assert federation.status()["run"] == made["run"]
        assert late not in {
            entry["site"] for entry in typed(federation, "runs", "show", made["run"])["sites"]
        }
        lines.append(f"trained again from round {made['from_round']} over a kill of the server")

        weights = federation.release(tmp_path / "bundle")
        assert load_bundle(weights.parent).state.keys()
        card = (tmp_path / "bundle" / "model_card.md").read_text(encoding="utf-8")
        assert f"Trained again without {late}; it replaces run {old}." in card
        words = ("export", old, "--unfinished", "--out", str(tmp_path / "old"), "--dir", str(federation.home))
        done = federation.type("coordinator", "mmfed-server", *words)
        assert "MMF-563" in done.stderr
        assert "MMF-564" in done.stderr
        assert "do not use this model" in (tmp_path / "old" / "model_card.md").read_text(encoding="utf-8")
        wait_until(
            lambda: (
                [c["superseded_by"] for c in typed(federation, "runs", "contributions", late)["runs"]]
                == [made["run"]]
            ),
            SECONDS,
            "the list",
        )

    study = Study.load(there.study)
    sites = [
        site
        for site in load_consortium(there.study.parent, study, there.study.parent).sites()
        if site.name != late
    ]
    never = run_study(study, sites, tmp_path / "never")
    state = load_bundle(tmp_path / "bundle").state
    assert all(never.state[name].equal(tensor) for name, tensor in state.items())
    lines.append("the weights are those of a run that the site was never part of, bit for bit")
    with capsys.disabled():
        print("", *lines, sep="\n  ")
