"""Studies and packs get into the federation's folder by one way, whoever keeps them."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from tests.server.serving import founded

from mmfed_common.errors import ModelError
from mmfed_common.knowledge import KnowledgePack
from mmfed_server.federation.kept import keep_pack


def test_a_pack_is_kept_whole_and_private_and_only_as_what_it_is(tmp_path: Path) -> None:
    federation = founded(tmp_path)
    pack = KnowledgePack.assemble(["KRAS", "TP53"])
    file, kept = tmp_path / "p.mmfk", federation.pack_file(pack.sha256)
    pack.save(file)
    with pytest.raises(ModelError) as caught:
        keep_pack(federation, pack.sha256, None)
    assert caught.value.code == "MMF-601"
    keep_pack(federation, pack.sha256, file)
    assert kept.read_bytes() == file.read_bytes()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    kept.write_bytes(b"damaged")
    with pytest.raises(ModelError):
        keep_pack(federation, pack.sha256, None)
    keep_pack(federation, pack.sha256, file)
    file.unlink()
    keep_pack(federation, pack.sha256, None)
    KnowledgePack.assemble(["EGFR"]).save(file)
    with pytest.raises(ModelError) as caught:
        keep_pack(federation, "0" * 64, file)
    assert caught.value.code == "MMF-602"
