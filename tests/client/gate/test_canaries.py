"""Unique values are planted in every record of a site; nothing that leaves holds one, in any writing."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Message
from tests.client.small_home import SmallHome, context, every_question, question, weights_of
from tests.simulations.small_federation import gene_study, small_patients, small_topology

from mmfed_client.fleet.objects import objects_of
from mmfed_client.site import SiteData
from mmfed_client.training import LocalSite
from mmfed_common import messages as m
from mmfed_common.patients import PatientTensors
from mmfed_common.study import Study

SIZE = 40
IDS = tuple(f"canary-{n:03d}-Zürich-9f3b" for n in range(SIZE))


def planted(study: Study) -> tuple[LocalSite, list[float]]:
    """A site in which every number of every patient occurs once, and all of those numbers.

    They are far from what weights are, so that four equal bytes are no coincidence.
    """
    topology = small_topology(study)
    patients = small_patients(study, topology, "canary", SIZE)
    numbers = iter(np.random.default_rng(17).normal(1000.0, 50.0, 100_000))
    values: list[float] = []

    def plant(tensor: torch.Tensor) -> None:
        drawn = torch.tensor([float(next(numbers)) for _ in range(tensor.numel())], dtype=torch.float32)
        tensor.copy_(drawn.reshape(tensor.shape))
        values.extend(drawn.tolist())

    for node in patients.nodes.values():
        plant(node.values)
    seeded = torch.Generator().manual_seed(3)
    patients.outcomes.time_days.copy_(100.0 + 3000.0 * torch.rand(SIZE, generator=seeded))
    values.extend(patients.outcomes.time_days.tolist())
    named = PatientTensors(IDS, patients.nodes, patients.outcomes)
    held_out = study.held_out_rule.held_out(IDS, "site-0")
    return LocalSite(study, SiteData("site-0", named, held_out, topology)), values


def writings(value: float) -> Iterator[bytes]:
    """A number as somebody might write it: raw, as text, rounded; raw forms of at least four bytes."""
    exact = struct.pack("<d", value)
    yield from (exact, exact[::-1])
    single = struct.pack("<f", value)
    yield from (single, single[::-1])
    for text in (repr(value), f"{value:.6f}", f"{value:.5f}", f"{value:.6g}", f"{value:.6e}"):
        yield text.encode()


def text_writings(text: str) -> Iterator[bytes]:
    """An id as somebody might write it."""
    for encoding in ("utf-8", "utf-16-le", "utf-32-le", "latin-1"):
        raw = text.encode(encoding)
        yield from (raw, raw.hex().encode(), raw[::-1])
        encoded = base64.b64encode(raw)
        yield from (encoded[: len(encoded) // 4 * 4 - 4], base64.b64encode(raw, b"-_")[:-4])


def everything_that_leaves(small: SmallHome, site: LocalSite) -> list[Message]:
    study = site.study.hash
    rounds = site.study.training.rounds
    asked = [*every_question(site)]
    asked += [question(m.TRAIN, study, n, **weights_of(site, n)) for n in range(2, rounds + 1)]
    asked += [question(m.TRAIN, study, 99), question(m.TRAIN, "0" * 64), question(m.TRAIN, study, 1)]
    return [small.app(site)(message, context()) for message in asked]


def aligned(content: bytes, size: int) -> set[bytes]:
    """Every run of ``size`` bytes, wherever it begins."""
    return {content[at : at + size] for at in range(len(content) - size + 1)}


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[float]]:
    study = gene_study()
    small = SmallHome.make(tmp_path_factory.mktemp("canaries"))
    small.approve(study)
    site, values = planted(study)
    answers = everything_that_leaves(small, site)
    assert sum(answer.has_content() for answer in answers) == 8
    return b"".join(content for answer in answers for _, content in objects_of(answer)), values


def test_no_number_of_a_patient_is_in_what_leaves(sent: tuple[bytes, list[float]]) -> None:
    content, values = sent
    runs = {size: aligned(content, size) for size in (4, 8)}
    found = []
    for value in values:
        for writing in writings(value):
            if writing in runs[len(writing)] if len(writing) in runs else writing in content:
                found.append((value, writing))
    assert found == []


def test_no_name_of_a_patient_is_in_what_leaves(sent: tuple[bytes, list[float]]) -> None:
    content, _ = sent
    assert [w for name in IDS for w in text_writings(name) if w in content] == []


def test_the_search_finds_what_is_there(sent: tuple[bytes, list[float]], tmp_path: Path) -> None:
    _, values = sent
    raw = np.array(values[:50], dtype="<f4").tobytes()
    assert all(struct.pack("<f", value) in aligned(raw, 4) for value in values[:50])
    assert next(text_writings(IDS[3])) in IDS[3].encode()


def test_an_error_of_a_site_tells_no_value(tmp_path: Path) -> None:
    study = gene_study()
    small = SmallHome.make(tmp_path)
    small.approve(study)
    site, _ = planted(study)

    def broken(_: object) -> LocalSite:
        raise ValueError(f"patient {IDS[0]} has age 512")

    from mmfed_client.app import make_client_app

    answer = make_client_app(broken, small.way_out())(question(m.TRAIN, site.study.hash), context())
    assert answer.error.reason == "ValueError"
    content = b"".join(body for _, body in objects_of(answer))
    assert not any(writing in content for writing in text_writings(IDS[0]))
    assert IDS[0].encode() not in small.home.ledger_file.read_bytes()
