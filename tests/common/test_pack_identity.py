"""A pack's identity: that of its content, whatever wraps it, and none for anything that is no whole pack."""

from __future__ import annotations

import gzip
import hashlib
import itertools
from pathlib import Path

import pytest

from mmfed_common.knowledge import KnowledgePack
from mmfed_common.pack_identity import pack_identity
from mmfed_simulations.synthetic import SyntheticSettings, make_consortium, write_consortium

CONTENT = b'{"genes": []}' * 200_000
PACK = gzip.compress(b'{"format": "x"}\n' + CONTENT + b"\n", mtime=0)


def test_it_is_what_a_study_names(tmp_path: Path) -> None:
    settings = SyntheticSettings(sites=2, patients=40, genes=30, pathways=6, smallest_site=15)
    write_consortium(make_consortium(settings), tmp_path / "c")
    path = tmp_path / "c" / "knowledge.mmfk"
    assert pack_identity(path) == KnowledgePack.load(path).sha256
    again = tmp_path / "again.mmfk"
    again.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), compresslevel=1, mtime=5))
    assert again.read_bytes() != path.read_bytes()
    assert pack_identity(again) == pack_identity(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no gzip",
        PACK[:-1],
        PACK[:-9],
        PACK + b"x",
        PACK + PACK,
        PACK[::-1],
        gzip.compress(b""),
        gzip.compress(b"header only\n"),
        gzip.compress(b"header\ncontent without an end"),
        gzip.compress(b"header\n" + CONTENT + b"\nmore\n"),
        gzip.compress(b"x" * 5000 + b"\ncontent\n"),
    ],
    ids=itertools.count(),  # gzip writes the time of day
)
def test_what_is_no_whole_pack_has_none(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pack.mmfk"
    path.write_bytes(content)
    assert pack_identity(path) is None


def test_a_bomb_is_not_unpacked_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "pack.mmfk"
    path.write_bytes(PACK)
    assert pack_identity(path) == hashlib.sha256(CONTENT).hexdigest()
    assert pack_identity(path, most_bytes=1_000_000) is None
