"""``mmfed-client rotate``: a new key for this site."""

from __future__ import annotations

from mmfed_client.cli.arguments import DEFAULT_HOME, Home, Yes, confirm, home_at, key_passphrase
from mmfed_common.command_line.output import AsJson, print_json, stdout

ROTATION = "rotation"


def rotate(home: Home = DEFAULT_HOME, yes: Yes = False, as_json: AsJson = False) -> None:
    """Replace this site's key with a new one, made here.

    The coordinator must have begun it: `mmfed-server enrol SITE --rotate`.
    A running site goes on with the new key by itself.
    Compare the new fingerprint with the coordinator by telephone.

    Examples:

        mmfed-client rotate
    """
    from mmfed_client.enrolment import PortalClient
    from mmfed_client.ledger import Ledger

    place = home_at(home)
    passphrase = key_passphrase(place)
    old = place.key(passphrase).public.fingerprint
    confirm("Replace this site's key?", yes or as_json)
    new = PortalClient(place, passphrase).rotate()
    entry = Ledger(place.ledger_file).append(ROTATION, {"before": old, "now": new})
    if as_json:
        print_json({"before": old, "fingerprint": new, "entry": entry.number})
        return
    console = stdout()
    console.print("This site has a new key. Compare with the coordinator, by telephone:")
    console.print(f"  {new}", markup=False, soft_wrap=True)
