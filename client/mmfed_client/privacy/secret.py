"""``privacy.key``: 32 random bytes from which a site's noise is made; whoever knows them can take it off."""

from __future__ import annotations

import secrets
import stat

from mmfed_client.home import SiteHome
from mmfed_common.durable import write_durably
from mmfed_common.errors import PrivacyError
from mmfed_common.signing import PRIVATE_MODE

BYTES = 32


def secret_of(home: SiteHome) -> bytes:
    """Read the site's secret; it is made when it is needed for the first time.

    A site that lost it makes another: then what was computed before is computed with other noise and has to
    be paid again, so the account stays right.

    Raises
    ------
    PrivacyError
        ``MMF-370`` when it cannot be read or written, is damaged, or others than its owner may read it.
    """
    path = home.privacy_key_file
    try:
        if not path.exists():
            write_durably(path, secrets.token_bytes(BYTES), PRIVATE_MODE)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise PrivacyError("MMF-370", "others than its owner may read it", str(path))
        secret = path.read_bytes()
    except OSError as error:
        raise PrivacyError("MMF-370", f"{error.strerror}", str(path)) from None
    if len(secret) != BYTES:
        raise PrivacyError("MMF-370", f"it has {len(secret)} bytes, {BYTES} belong there", str(path))
    return secret
