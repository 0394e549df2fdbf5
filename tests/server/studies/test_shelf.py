"""Studies on the coordinator's shelf: signed, kept with their pack, offered."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from pathlib import Path

import pytest
from tests.server.serving import founded

from mmfed_common.bundle import load_bundle, save_bundle
from mmfed_common.errors import MmfedError
from mmfed_common.graph import build_topology
from mmfed_common.knowledge import KnowledgePack
from mmfed_common.model import build_model
from mmfed_common.model_card import ModelFacts
from mmfed_common.names import parse_time, utc_now
from mmfed_common.signed_study import SignedStudy
from mmfed_common.study import Study
from mmfed_server.studies import StudyShelf, study_template


def study_with_pack(folder: Path) -> Path:
    """A study that needs a pack, with the pack beside it."""
    pack = KnowledgePack.assemble(["KRAS", "TP53"])
    pack.save(folder / "knowledge.mmfk")
    text = study_template("genes", 1) + (
        f'\n[contract.knowledge]\nfile = "knowledge.mmfk"\nsha256 = "{pack.sha256}"\n'
        '[contract.gene]\npanel = "knowledge"\n[contract.gene.layers.expression]\n'
    )
    path = folder / "study.toml"
    path.write_text(text)
    return path


def test_a_study_comes_back_as_it_was_signed(tmp_path: Path) -> None:
    federation = founded(tmp_path)
    shelf = StudyShelf(federation)
    study, signed = shelf.put(study_with_pack(tmp_path))
    assert signed.open(federation.coordinator_key.public, "demo").hash == study.hash
    assert shelf.offered() is None
    assert shelf.offer(study) == signed
    again = StudyShelf(federation)
    assert again.offered() == signed
    assert again.topology(study).nodes["gene"] == ("KRAS", "TP53")
    again.withdraw()
    assert shelf.offered() is None


def test_a_study_stays_whole_without_the_folder_it_came_from(tmp_path: Path) -> None:
    shelf = StudyShelf(founded(tmp_path))
    path = study_with_pack(tmp_path)
    study, _ = shelf.put(path)
    (tmp_path / "knowledge.mmfk").unlink()
    assert shelf.put(path)[0].hash == study.hash


def test_another_pack_is_refused_and_nothing_is_signed(tmp_path: Path) -> None:
    federation = founded(tmp_path)
    path = study_with_pack(tmp_path)
    KnowledgePack.assemble(["EGFR"]).save(tmp_path / "knowledge.mmfk")
    with pytest.raises(MmfedError) as caught:
        StudyShelf(federation).put(path)
    assert caught.value.code == "MMF-602"
    assert list(federation.studies.iterdir()) == []


def test_the_model_that_a_study_starts_from_is_kept_and_another_is_refused(tmp_path: Path) -> None:
    federation = founded(tmp_path)
    begun = Study.from_content(tomllib.loads(study_template("before", 1)))
    model = build_model(begun, build_topology(begun.contract, None))
    facts = ModelFacts({}, [], "Nobody was held out.")
    bundle = save_bundle(tmp_path / "released", begun, model.state_dict(), None, facts)
    path = tmp_path / "study.toml"
    start = f'start_from = {{ file = "released", sha256 = "{bundle.hash}" }}'
    path.write_text(study_template("after", 1).replace("[model]", f"[model]\n{start}", 1))
    study, _ = StudyShelf(federation).put(path)
    kept = StudyShelf(federation).bundle_of(study)
    assert kept is not None
    assert load_bundle(kept).hash == bundle.hash
    path.write_text(path.read_text().replace(bundle.hash, "0" * 64))
    with pytest.raises(MmfedError) as caught:
        StudyShelf(federation).put(path)
    assert caught.value.code == "MMF-630"


def test_a_signature_is_renewed_before_it_ends_and_not_before(tmp_path: Path) -> None:
    shelf = StudyShelf(founded(tmp_path))
    path = study_with_pack(tmp_path)
    study, long = shelf.put(path)
    assert shelf.put(path)[1] == long
    _, short = shelf.put(path, days=3)
    assert parse_time(short.expires) < utc_now() + timedelta(days=4)
    renewed = shelf.offer(study)
    assert parse_time(renewed.expires) > utc_now() + timedelta(days=300)
    assert renewed.hash == short.hash


def test_a_study_that_is_not_kept_cannot_be_offered(tmp_path: Path) -> None:
    federation = founded(tmp_path)
    shelf = StudyShelf(federation)
    study, _ = shelf.put(study_with_pack(tmp_path))
    shelf.offer(study)
    federation.study_file(study.hash).unlink()
    for call in (lambda: shelf.offer(study), shelf.offered):
        with pytest.raises(MmfedError) as caught:
            call()
        assert caught.value.code == "MMF-551"


def test_a_file_under_a_wrong_name_is_refused(tmp_path: Path) -> None:
    federation = founded(tmp_path)
    shelf = StudyShelf(federation)
    study, signed = shelf.put(study_with_pack(tmp_path))
    shelf.offer(study)
    other = SignedStudy.sign(study.with_changes(study={"seed": 9}), federation.coordinator_key, "demo")
    federation.study_file(signed.hash).write_text(other.to_json())
    with pytest.raises(MmfedError) as caught:
        shelf.offered()
    assert caught.value.code == "MMF-551"
