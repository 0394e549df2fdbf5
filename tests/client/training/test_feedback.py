"""What rounding loses is kept by the update, added to the next change, and survives crashes."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mmfed_client.training import LocalUpdate, as_sent
from mmfed_client.training.feedback import MOST_KEPT, Feedback, digest_of
from mmfed_common.arrays import shapes_of
from mmfed_common.compression import restored
from mmfed_common.errors import ModelError, PrivacyError

START = {"a": torch.zeros(50), "b": torch.zeros(3, 2)}
SHAPES = shapes_of(START)


@pytest.fixture(params=["folder", "memory"])
def feedback(request: pytest.FixtureRequest, tmp_path: Path) -> Feedback:
    return Feedback(tmp_path / "kept" if request.param == "folder" else None)


def update_of(seed: int, scale: float = 1e-2) -> LocalUpdate:
    draw = torch.Generator().manual_seed(seed)
    trained = {name: scale * torch.randn(t.shape, generator=draw) for name, t in START.items()}
    return LocalUpdate(trained, 10, 0.5)


def send(update: LocalUpdate, feedback: Feedback, last: str) -> tuple[dict[str, Tensor], str]:
    """What arrives at the server, and its digest there."""
    sent, shapes = as_sent(update, START, SHAPES, "int8", feedback, last)
    assert shapes_of(sent.trained) == dict(shapes)
    arrived = restored(sent.trained, START, "int8")
    return arrived, digest_of(arrived)


def test_in_the_long_run_nothing_is_lost(feedback: Feedback) -> None:
    """The sum of what arrives is the sum of the changes but for one rounding; without feedback it drifts."""
    update, last = update_of(1), ""
    with_feedback, without = torch.zeros(50), torch.zeros(50)
    rounds = 40
    for _ in range(rounds):
        arrived, last = send(update, feedback, last)
        with_feedback += arrived["a"]
        without += send(update, Feedback(), "")[0]["a"]
    wanted = rounds * update.trained["a"]
    step = float(update.trained["a"].abs().max()) / 127
    assert float((with_feedback - wanted).abs().max()) <= step
    assert float((without - wanted).abs().max()) > 5 * step


def test_a_round_that_is_repeated_gives_the_same_update(feedback: Feedback) -> None:
    _, first = send(update_of(1), feedback, "")
    once, second = send(update_of(2), feedback, first)
    again, same = send(update_of(2), feedback, first)
    assert second == same
    assert all(torch.equal(once[name], again[name]) for name in once)


def test_an_update_that_was_not_taken_leaves_no_trace(feedback: Feedback) -> None:
    _, first = send(update_of(1), feedback, "")
    send(update_of(7), feedback, first)  # came too late
    after, _ = send(update_of(3), feedback, first)
    straight = Feedback()
    _, one = send(update_of(1), straight, "")
    expected, _ = send(update_of(3), straight, one)
    assert all(torch.equal(after[name], expected[name]) for name in after)


def test_another_process_goes_on(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    _, first = send(update_of(1), Feedback(folder), "")
    arrived, _ = send(update_of(2), Feedback(folder), first)
    expected, _ = send(update_of(2), Feedback(), "")
    assert not torch.equal(arrived["a"], expected["a"])
    (kept, *_) = folder.iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_the_oldest_are_forgotten_but_never_what_the_server_may_name(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    feedback = Feedback(folder)
    _, first = send(update_of(1), feedback, "")
    for seed in range(2, 12):  # none of them is taken
        send(update_of(seed), feedback, first)
        assert feedback.lost(first, SHAPES) is not None
    assert len(list(folder.iterdir())) <= MOST_KEPT


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_what_is_damaged_or_gone_is_left_out(
    tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    feedback = Feedback(tmp_path)
    _, first = send(update_of(1), feedback, "")
    (file,) = tmp_path.iterdir()
    if damage is None:
        file.unlink()
    else:
        file.write_bytes(damage)
    arrived, _ = send(update_of(2), feedback, first)
    expected, _ = send(update_of(2), Feedback(), "")
    assert torch.equal(arrived["a"], expected["a"])
    assert "goes on without" in caplog.text
    assert feedback.lost("../../etc/passwd", SHAPES) is None


def test_a_folder_that_cannot_be_written_stops_the_update(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("a file")
    with pytest.raises(PrivacyError) as caught:
        send(update_of(1), Feedback(tmp_path / "kept"), "")
    assert caught.value.code == "MMF-311"


def test_a_change_that_is_too_large_is_named() -> None:
    with pytest.raises(ModelError) as caught:
        as_sent(update_of(1, 1e6), START, SHAPES, "fp16", Feedback(), "")
    assert caught.value.code == "MMF-604"
