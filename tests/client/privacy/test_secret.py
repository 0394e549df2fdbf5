"""The secret of the noise: made once, kept, and refused when it cannot be trusted."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmfed_client.home import SiteHome
from mmfed_client.privacy.secret import secret_of
from mmfed_common.errors import PrivacyError


def test_it_is_made_once_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    home = SiteHome(tmp_path)
    secret = secret_of(home)
    assert len(secret) == 32
    assert secret_of(SiteHome(tmp_path)) == secret
    assert home.privacy_key_file.stat().st_mode & 0o777 == 0o600
    other = tmp_path / "other"
    other.mkdir()
    assert secret_of(SiteHome(other)) != secret


@pytest.mark.parametrize("damage", ["short", "open", "folder"])
def test_what_cannot_be_trusted_is_refused(tmp_path: Path, damage: str) -> None:
    home = SiteHome(tmp_path)
    secret_of(home)
    if damage == "short":
        home.privacy_key_file.write_bytes(b"short")
    elif damage == "open":
        home.privacy_key_file.chmod(0o644)
    else:
        home.privacy_key_file.unlink()
        home.privacy_key_file.mkdir(mode=0o700)
    with pytest.raises(PrivacyError) as error:
        secret_of(home)
    assert error.value.code == "MMF-370"
