"""What each choice of what moves costs in noise, as ``study show`` prints it."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from tests.client.privacy.private_sites import private_study

from mmfed_common.graph import build_topology
from mmfed_common.model import build_model
from mmfed_common.privacy import PrivacyPlan
from mmfed_server.cli.program import run
from mmfed_server.studies.noise import noise_costs


def test_noise_is_sigma_times_the_root_of_the_parameters_over_the_patients_of_a_step() -> None:
    study = private_study(privacy={"trainable": "heads"})
    topology = build_topology(study.contract, None)
    costs = noise_costs(study, topology, sites=(60,))
    full = {cost.trainable: cost for cost in costs if cost.stage == 3}
    model = build_model(study, topology)
    plan = PrivacyPlan.of(study, 60)
    everything = sum(p.numel() for n, p in model.named_parameters() if n.startswith("full."))
    assert full["all"].parameters == everything
    assert full["all"].sites[0].ratio == pytest.approx(plan.sigma * math.sqrt(everything) / 8)
    assert full["heads"].chosen
    assert "linear" not in full
    sizes = [full[choice].parameters for choice in ("heads", "adapters", "all")]
    assert sizes == sorted(set(sizes))


def test_a_site_where_the_study_cannot_be_private_shows_the_code() -> None:
    study = private_study(privacy={"delta": 1e-2})
    (first, *_) = noise_costs(study, build_topology(study.contract, None), sites=(60, 200))
    assert [site.refused for site in first.sites] == ["", "MMF-306"]
    assert first.sites[1].ratio is None


def test_show_prints_it_for_people_and_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "study.json"
    file.write_bytes(private_study(privacy={"trainable": "heads"}).canonical())
    assert run(["study", "show", str(file)]) == 0
    assert "heads ←" in capsys.readouterr().out
    assert run(["study", "show", str(file), "--json"]) == 0
    noise = json.loads(capsys.readouterr().out)["noise"]
    assert {entry["trainable"] for entry in noise} == {"linear", "heads", "adapters", "all"}
