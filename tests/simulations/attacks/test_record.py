"""What an attack leaves behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.simulations.attacks.overfitted import STUDY

from mmfed_common.bundle import Bundle, load_bundle, note_on_card, save_bundle
from mmfed_common.model_card import ModelFacts
from mmfed_simulations.attacks.attribute import AttributeRow, Gain
from mmfed_simulations.attacks.defences import Defence
from mmfed_simulations.attacks.figures import AttackFigures, Interval
from mmfed_simulations.attacks.membership import MembershipRow
from mmfed_simulations.attacks.reconstruct import ReconstructRow
from mmfed_simulations.attacks.record import (
    attribute_report,
    membership_report,
    reconstruct_report,
    write_record,
)

SOME = Interval(0.61, 0.55, 0.67)
FIGURES = AttackFigures(SOME, Interval(0.04, 0.0, 0.11), 80, 40)
MEMBERSHIP = MembershipRow(Defence("released"), "model", FIGURES, FIGURES, 1.5, 2.5)
RECONSTRUCT = ReconstructRow(Defence("dp8", 8.0), 4, SOME, None, FIGURES, FIGURES)
GAIN = Gain(SOME, SOME, Interval(0.0, -0.1, 0.1), 50)
ATTRIBUTE = AttributeRow(Defence("released"), "sex", GAIN, GAIN, SOME)


@pytest.fixture
def folder(tmp_path: Path, bundle: Bundle) -> Path:
    """A bundle of its own."""
    facts = ModelFacts({}, [], "nobody")
    save_bundle(tmp_path / "model", STUDY, bundle.state, None, facts)
    return tmp_path / "model"


def test_attacks_on_one_bundle_stand_side_by_side(folder: Path, tmp_path: Path) -> None:
    target, out = load_bundle(folder), tmp_path / "out"
    write_record(out, target, membership_report([MEMBERSHIP], 16))
    write_record(out, target, reconstruct_report([RECONSTRUCT]))
    write_record(out, target, attribute_report([ATTRIBUTE]))
    record = json.loads((out / "attack.json").read_text())
    assert record["bundle"] == target.hash
    assert list(record["attacks"]) == ["membership", "reconstruct", "attribute"]
    row = record["attacks"]["membership"]["rows"][0]
    assert row["likelihood_ratio"]["auc"] == {"estimate": 0.61, "low": 0.55, "high": 0.67}
    assert row["likelihood_ratio"]["members"] == 80
    assert record["attacks"]["reconstruct"]["rows"][0]["clinical_likeness"] is None
    page = (out / "attack.html").read_text()
    for text in (target.hash, "0.610 [0.550, 0.670]", "DP, ε = 8", "16 shadow models"):
        assert text in page


@pytest.mark.parametrize("content", ["{", "[]", '{"bundle": "another", "attacks": {"membership": {}}}'])
def test_what_is_of_another_bundle_is_replaced(folder: Path, tmp_path: Path, content: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "attack.json").write_text(content)
    write_record(out, load_bundle(folder), attribute_report([ATTRIBUTE]))
    assert list(json.loads((out / "attack.json").read_text())["attacks"]) == ["attribute"]


def test_the_figure_goes_on_the_card_once(folder: Path) -> None:
    before = load_bundle(folder)
    report = membership_report([MEMBERSHIP], 16)
    noted = note_on_card(folder, "Attacks on this model", report.attack, report.note)
    assert noted.hash != before.hash
    note_on_card(folder, "Attacks on this model", "attribute", attribute_report([ATTRIBUTE]).note)
    note_on_card(folder, "Attacks on this model", report.attack, report.note)
    card = (folder / "model_card.md").read_text()
    assert card.count("## Attacks on this model") == 1
    assert card.count("0.610 [0.550, 0.670], TPR at 1 % FPR 0.040") == 1
    assert card.count("- **attribute**") == 1
    assert card.startswith("# Model card: overfitted")
    assert load_bundle(folder).state.keys() == before.state.keys()
    assert not folder.with_name("model.partial").exists()
    shutil.rmtree(folder)
