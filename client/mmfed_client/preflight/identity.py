"""The items of who the site is and whom it trusts: its key, the federation's authority, the coordinator."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from mmfed_client.home import PASSPHRASE_VARIABLE
from mmfed_client.preflight.certificate import days_left, named, read_authority
from mmfed_client.preflight.finding import NO_HOME, Finding, fault, not_applicable, ok, warning
from mmfed_client.preflight.subject import Subject
from mmfed_common.errors import NetworkError
from mmfed_common.names import time_text


def key(subject: Subject) -> Iterator[Finding]:
    """The site's private key: there, readable by its owner only, opened by the passphrase."""
    path = subject.home.key_file
    if not subject.home.path.is_dir():
        yield not_applicable(NO_HOME)
        return
    try:
        mode = stat.S_IMODE(os.lstat(path).st_mode)
    except OSError:
        repair = "Restore key.pem from its copy, or ask the coordinator for a new join kit."
        yield fault("MMF-411", "there is no key", str(path), repair)
        return
    try:
        found = subject.home.key()
    except NetworkError as error:
        given = bool(os.environ.get(PASSPHRASE_VARIABLE))
        yield fault(error.code, error.what, error.where, _key_repair(error.code, str(path), given=given))
        return
    if mode & 0o177:
        what = f"its mode is {mode:04o} instead of 0600"
        yield warning("MMF-412", what, str(path), f"Run `chmod 600 {path}`.")
        return
    yield ok(f"fingerprint {found.public.fingerprint}", str(path))


def _key_repair(code: str, path: str, *, given: bool) -> str:
    if code == "MMF-412":
        return f"Run `chmod 600 {path}`. If others can have read it, ask the coordinator for a rotation."
    if code == "MMF-413" and given:
        return f"Set {PASSPHRASE_VARIABLE} to the passphrase that was given to `mmfed-client join`."
    if code == "MMF-413":
        return f"Set {PASSPHRASE_VARIABLE}: the key is under a passphrase, and none is given."
    return "Restore key.pem from its copy, or ask the coordinator for a new join kit."


def trust(subject: Subject) -> Iterator[Finding]:
    """The certificate of the federation's authority and the coordinator's key, as ``join`` stored them."""
    home, limits = subject.home, subject.limits
    if not home.path.is_dir():
        yield not_applicable(NO_HOME)
        return
    coordinator = home.coordinator
    authority = read_authority(home.ca_file)
    now, where = subject.now(), str(home.ca_file)
    left, end = days_left(authority, now), time_text(authority.not_valid_after_utc)
    if left <= 0:
        yield fault("MMF-498", f"{named(authority)} expired at {end}", where)
    elif authority.not_valid_before_utc > now:
        start = time_text(authority.not_valid_before_utc)
        repair = "Set the clock by a time server (`timedatectl set-ntp true`)."
        yield fault("MMF-498", f"{named(authority)} is valid only from {start} on", where, repair)
    elif left <= limits.certificate_warning:
        yield warning("MMF-498", f"{named(authority)} expires at {end}, in {left:.0f} day(s)", where)
    else:
        fingerprint = f"coordinator's key {coordinator.fingerprint}"
        yield ok(f"{named(authority)}, valid for {left:.0f} more days; {fingerprint}", where)
