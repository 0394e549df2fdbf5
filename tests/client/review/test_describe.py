"""A review says what would run and what changed, and no text of a study can disguise itself in it."""

from __future__ import annotations

import io
import json

from rich.console import Console
from tests.simulations.small_federation import gene_study, small_study

from mmfed_client.policy import Policy
from mmfed_client.review import Change, Review, describe
from mmfed_common.signed_study import SignedStudy
from mmfed_common.signing import CoordinatorKey
from mmfed_common.study_words import study_in_words


def shown(review: Review) -> str:
    out = io.StringIO()
    Console(file=out, width=200).print(review.renderable())
    return out.getvalue()


def said(review: Review, about: str) -> str:
    return next(statement.text for statement in review.statements if statement.about == about)


def test_what_would_run_is_said_in_plain_words() -> None:
    review = describe(gene_study())
    assert "overall survival" in said(review, "predicts")
    assert "age" in said(review, "reads")
    assert "genes" in said(review, "reads")
    assert "4 rounds" in said(review, "trains")
    assert "20%" in said(review, "tests on")
    assert "No differential privacy" in said(review, "privacy")
    text = " ".join(shown(review).split())
    assert gene_study().hash in text
    assert "No study was approved at this site before." in text


def test_training_without_outcomes_and_a_released_model_are_said() -> None:
    stages = [{"level": "full", "rounds": 3, "objective": "masked_nodes"}]
    start = {"start_from": {"file": "released", "sha256": "a" * 64}, "frozen": ["embeddings"]}
    review = describe(gene_study(training={"stages": stages}, model=start))
    assert "fill in values" in said(review, "trains")
    assert "a" * 64 in said(review, "starts from")
    text = " ".join(statement.text for statement in review.statements)
    assert "stays as it is: the embeddings" in text
    words = " ".join(sentence for topic in study_in_words(review.study) for sentence in topic.sentences)
    assert "no outcome is read" in words
    assert "a" * 64 in words


def test_what_a_study_of_survival_sets_otherwise_is_said() -> None:
    def words(**survival: object) -> str:
        contract = small_study().contract.model_dump(mode="json")
        study = small_study(contract={**contract, "survival": {**contract["survival"], **survival}})
        return " ".join(sentence for topic in study_in_words(study) for sentence in topic.sentences)

    usual = words()
    assert "when last seen" not in usual
    assert "publicly known" not in usual
    assert "counts to that day" in words(censoring="day")
    known = {"days": 1826.25, "alive": 0.85}
    assert "85 % are alive after 1826.25 days" in words(reference_survival=known)


def test_the_stricter_floor_is_named() -> None:
    review = describe(small_study(), policy=Policy(minimum_patients=77, metrics=("num-examples",)))
    text = " ".join(statement.text for statement in review.statements)
    assert "fewer than 77" in text
    assert "loss, seconds" in text


def test_differences_are_given_key_by_key() -> None:
    before = small_study()
    after = before.with_changes(
        training={"local_epochs": 3}, contract={"clinical": {"marker": {"kind": "number", "unit": "g"}}}
    )
    review = describe(after, before)
    assert review.changes == (
        Change("contract.clinical.marker.unit", "", "g"),
        Change("training.local_epochs", 2, 3),
    )
    assert "training.local_epochs" in shown(review)


def test_keys_that_come_and_go_are_differences() -> None:
    before, after = small_study(), gene_study()
    changes = {change.key: change for change in describe(after, before).changes or ()}
    assert changes["contract.gene.edge_threshold"].before is None
    assert changes["training.stages.2.level"].after == "additive"
    assert describe(before, before).changes == ()


def test_reasons_of_the_policy_stand_in_the_review() -> None:
    found = Policy().violations(small_study(), "f")
    review = describe(small_study(), violations=found)
    assert review.as_dict()["allowed"] is False
    assert review.as_dict()["violations"][0]["code"] == "MMF-328"
    assert "MMF-328" in shown(review)


def test_it_is_one_json_document_with_who_signed_it() -> None:
    signed = SignedStudy.sign(small_study(), CoordinatorKey.generate(), "lab")
    content = json.loads(json.dumps(describe(small_study(), small_study(), signed=signed).as_dict()))
    assert content["signed"]["coordinator"] == signed.coordinator_fingerprint
    assert content["changes"] == []
    assert content["warnings"] == []


def test_other_software_is_explained() -> None:
    signed = SignedStudy.sign(small_study(), CoordinatorKey.generate(), "lab")
    signed = signed.model_copy(update={"software": "mmfed 9.9; flwr 1.41.0; torch 2.0; python 3.11"})
    assert any("mmfed is 9.9 there" in warning for warning in describe(small_study(), signed=signed).warnings)


def test_no_text_of_a_study_acts_on_a_terminal() -> None:
    study = small_study(
        study={"description": "\x1b[2Jgood [bold red]news[/] \u202ereversed", "contact": "a\nb"}
    )
    text = shown(describe(study, small_study()))
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold red]" in text
    assert "a\\nb" in text


def test_masks_are_explained_and_what_they_do_not_stop() -> None:
    contract = {**small_study().contract.model_dump(mode="json"), "normalisation": "reference"}
    masked = small_study(contract=contract, aggregation={"secure": True})
    text = " ".join(statement.text for statement in describe(masked, policy=Policy()).statements)
    assert "leaves under masks" in text
    assert "list them as `peers`" in text
    careful = Policy(hide_counts=True, peers=("ab" * 32,))
    text = " ".join(statement.text for statement in describe(masked, policy=careful).statements)
    assert "The number of patients is told to nobody" in text
    assert "`peers`" not in text
    plain = " ".join(statement.text for statement in describe(small_study(), policy=Policy()).statements)
    assert "masks" not in plain
