"""A run's model becomes a bundle that holds exactly the committed weights."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch
from tests.server.serving import founded

from mmfed_common.bundle import load_bundle
from mmfed_common.errors import MmfedError
from mmfed_common.study import Study
from mmfed_server.coordinator.release import release
from mmfed_server.database import open_database
from mmfed_server.federation import Federation
from mmfed_server.record.catalogue import RunCatalogue
from mmfed_server.record.database_record import DatabaseRecord
from mmfed_server.record.state import RunState, SiteTotals
from mmfed_server.studies import study_template

STUDY = Study.from_content(tomllib.loads(study_template("lung", 1)))


def committed(
    federation: Federation, *, finished: bool, study: Study = STUDY, measured: bool = True
) -> tuple[str, dict[str, torch.Tensor]]:
    """A run with one committed state; gives its name and weights."""
    engine = open_database(federation.database_url)
    run = RunCatalogue(engine).begin(study)
    record = DatabaseRecord(engine, run, federation.spool / "rounds")
    record.rewind(None)
    weights = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(0.5)}
    entry = {"round": 1, "stage": "clinical", "seconds": 0.1, "train_loss": 2.0}
    entry |= {"held_out_loss": 1.5} if measured else {}
    record.commit(
        RunState(
            study.hash,
            next_round=2,
            weights=weights,
            history=[{**entry, "sites": 1, "refused": {}}],
            sites={"north": SiteTotals(patients=30, rounds=1), "south": SiteTotals()},
            finished=finished,
        )
    )
    engine.dispose()
    return run, weights


def test_the_bundle_holds_the_committed_weights(tmp_path: Path) -> None:
    federation = founded(tmp_path)
    run, weights = committed(federation, finished=True)
    written, name = release(federation, "latest", tmp_path / "bundle")
    assert name == run
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.hash == written.hash
    assert bundle.study.hash == STUDY.hash
    assert {key: tensor.tolist() for key, tensor in bundle.state.items()} == {
        key: tensor.tolist() for key, tensor in weights.items()
    }
    assert bundle.metrics["federated"]["all"]["held_out_loss"]["estimate"] == 1.5
    card = (tmp_path / "bundle" / "model_card.md").read_text()
    assert "30 patients of 1 sites" in card
    assert "None" not in card.split("## Performance")[0]


def test_an_unfinished_run_is_released_only_when_asked(tmp_path: Path) -> None:
    federation = founded(tmp_path)
    run, _ = committed(federation, finished=False)
    for name in (run, "latest"):
        with pytest.raises(MmfedError) as caught:
            release(federation, name, tmp_path / "bundle")
        assert caught.value.code == "MMF-552"
    assert not (tmp_path / "bundle").exists()
    release(federation, run, tmp_path / "bundle", unfinished=True)
    assert "Released before its end: 1 of 30" in (tmp_path / "bundle" / "model_card.md").read_text()


def test_another_folder_is_not_overwritten(tmp_path: Path) -> None:
    federation = founded(tmp_path)
    committed(federation, finished=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(MmfedError) as caught:
        release(federation, "latest", tmp_path / "mine")
    assert caught.value.code == "MMF-606"
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


def with_rule(rule: str) -> Study:
    """The study with another rule for who is held out."""
    content = tomllib.loads(study_template("lung", 1))
    return Study.from_content({**content, "evaluation": {**content.get("evaluation", {}), "rule": rule}})


@pytest.mark.parametrize(
    ("rule", "measured", "finished", "said", "unsaid"),
    [
        (
            "hash",
            True,
            True,
            "measured the mean loss of the model over them after round 1",
            "Nothing was meas",
        ),
        (
            "hash",
            False,
            True,
            "no site told a loss over them: where they are fewer than 10",
            "No patient was",
        ),
        ("hash", False, False, "nothing had been measured over them when", "No patient was"),
        ("none", False, True, "No patient was held out.", "stay at their sites"),
    ],
)
def test_the_card_says_what_was_measured_and_why_not(
    tmp_path: Path, rule: str, measured: bool, finished: bool, said: str, unsaid: str
) -> None:
    federation = founded(tmp_path)
    committed(federation, finished=finished, study=with_rule(rule), measured=measured)
    release(federation, "latest", tmp_path / "bundle", unfinished=True)
    card = (tmp_path / "bundle" / "model_card.md").read_text()
    performance = card.split("## Performance")[1].split("## Privacy")[0]
    assert said in performance
    assert unsaid not in performance
    assert ("Loss over held-out patients | 1.500 | – |" in performance) == measured
    assert ("Nothing was measured." in performance) == (not measured)
    assert "Brackets" not in performance
