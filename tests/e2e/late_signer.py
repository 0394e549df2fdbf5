"""``mmfed-server`` that, when it is told to, offers its study with a signature that ends in a few seconds.

``python late_signer.py WORD start --dir DIR …``: the word is a file that appears.
"""

from __future__ import annotations

import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

from mmfed_common.names import utc_now
from mmfed_common.signed_study import SignedStudy
from mmfed_server.cli.program import run
from mmfed_server.federation import Federation, Offers

SECONDS = 10.0


def ending(federation: Federation, signed: SignedStudy, seconds: float) -> SignedStudy:
    """The same study with a signature of the coordinator that ends in some seconds."""
    key, issued = federation.coordinator_key, utc_now() - timedelta(days=1) + timedelta(seconds=seconds)
    return SignedStudy.sign(signed.open(key.public, federation.name), key, federation.name, 1, issued)


def sign_on(word: Path) -> None:
    """Sign anew, what is offered next, once the word is given."""
    put = Offers.put

    def put_and_wait(offers: Offers, signed: SignedStudy, pack: Path | None = None) -> None:
        def wait() -> None:
            while not word.exists():
                time.sleep(0.1)
            put(offers, ending(offers.federation, signed, SECONDS), pack)

        put(offers, signed, pack)
        threading.Thread(target=wait, daemon=True).start()

    Offers.put = put_and_wait  # type: ignore[method-assign]


if __name__ == "__main__":
    sign_on(Path(sys.argv[1]))
    sys.exit(run(sys.argv[2:]))
