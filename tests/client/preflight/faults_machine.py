"""Faults of the machine, of the home's files, of keys, trust and record."""

from __future__ import annotations

import os
import resource
from dataclasses import replace
from datetime import timedelta

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.client.preflight.planting import Bench, Plant, Planted
from tests.client.preflight.small_site import Site

from mmfed_client.preflight import State
from mmfed_client.supervisor.lock import NodeLock
from mmfed_common.names import utc_now
from mmfed_server.federation.certificates import Authority, certificate_pem

HUGE = 2**60


def lowered(which: int, value: int) -> Plant:
    """Lower a soft limit of this process."""

    def plant(site: Site, bench: Bench) -> None:
        soft, hard = resource.getrlimit(which)
        resource.setrlimit(which, (value, hard))
        bench.stack.callback(resource.setrlimit, which, (soft, hard))

    return plant


def declared(*lines: str) -> Plant:
    """Let another metadata file of mmfed be found first."""

    def plant(site: Site, bench: Bench) -> None:
        folder = bench.folder / "metadata" / "mmfed-0.1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(
            "\n".join(["Metadata-Version: 2.1", "Name: mmfed", "Version: 0.1.0", *lines, "", ""])
        )
        bench.patch.syspath_prepend(str(folder.parent))

    return plant


def limits(**values: int) -> Plant:
    """Ask for more than this machine has."""

    def plant(site: Site, bench: Bench) -> None:
        site.limits = replace(site.limits, **values)

    return plant


def mode(name: str, value: int) -> Plant:
    """Change a file's permissions."""
    return lambda site, bench: (site.home.path / name).chmod(value)


def removed(name: str) -> Plant:
    """Take a file or an empty folder away."""

    def plant(site: Site, bench: Bench) -> None:
        path = site.home.path / name
        path.rmdir() if path.is_dir() else path.unlink()

    return plant


def written(name: str, text: str) -> Plant:
    """Replace a file's content."""

    def plant(site: Site, bench: Bench) -> None:
        path = site.home.path / name
        path.write_text(text)
        path.chmod(0o600)

    return plant


def open_umask(site: Site, bench: Bench) -> None:
    bench.stack.callback(os.umask, os.umask(0))


def policy_open(site: Site, bench: Bench) -> None:
    site.home.path.chmod(0o755)
    site.home.policy_file.chmod(0o666)


def nowhere(site: Site, bench: Bench) -> None:
    site.home.packs.rmdir()
    site.home.packs.symlink_to("/proc")


def no_home(site: Site, bench: Bench) -> None:
    site.home.path.rename(bench.folder / "elsewhere")


def other_curve(site: Site, bench: Bench) -> None:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    written("key.pem", pem.decode())(site, bench)


def under_passphrase(given: str | None) -> Plant:
    def plant(site: Site, bench: Bench) -> None:
        site.home.key().save(site.home.key_file, "correct horse")
        if given:
            bench.patch.setenv("MMFED_PASSPHRASE", given)

    return plant


def authority_aged(days: float) -> Plant:
    """Replace the authority's certificate by one that ends in so many days."""

    def plant(site: Site, bench: Bench) -> None:
        whole = Authority.create("lung", utc_now()).certificate
        life = whole.not_valid_after_utc - whole.not_valid_before_utc
        made = Authority.create("lung", utc_now() - life + timedelta(days=days))
        site.home.ca_file.write_bytes(certificate_pem(made.certificate))

    return plant


def ledger_changed(site: Site, bench: Bench) -> None:
    content = site.home.ledger_file.read_bytes()
    site.home.ledger_file.write_bytes(content.replace(b"Ann Able", b"Ann Abel"))


def ledger_torn(site: Site, bench: Bench) -> None:
    with open(site.home.ledger_file, "ab") as file:
        file.write(b'{"number": 2, "ki')


def node_running(site: Site, bench: Bench) -> None:
    bench.stack.enter_context(NodeLock(site.home.lock_file))


def site_key(name: str, value: str) -> Plant:
    """Change a key of site.toml."""
    return lambda site, bench: site.edit_config(**{name: value})


def site_line(line: str) -> Plant:
    """Add a line to site.toml."""

    def plant(site: Site, bench: Bench) -> None:
        with open(site.home.config_file, "a") as file:
            file.write(line + "\n")

    return plant


RUNNING = "Nothing need be done"
FAULTS: dict[str, Planted] = {
    "too few open files": Planted(
        lowered(resource.RLIMIT_NOFILE, 200), "system limits", "MMF-134", "ulimit -n", "200 files"
    ),
    "small files only": Planted(
        lowered(resource.RLIMIT_FSIZE, 2**30), "system limits", "MMF-134", "ulimit -f", "1024 MiB"
    ),
    "limited processor time": Planted(
        lowered(resource.RLIMIT_CPU, 10**6), "system limits", "MMF-134", "ulimit -t", "1000000 s"
    ),
    "package too old": Planted(
        declared("Requires-Dist: numpy >=99"), "software", "MMF-135", 'pip install "numpy>=99"', "numpy is "
    ),
    "package missing": Planted(
        declared("Requires-Dist: no-such-package >=2"),
        "software",
        "MMF-135",
        'pip install "no-such-package>=2"',
        "not installed",
    ),
    "other Python": Planted(
        declared("Requires-Python: >=3.99"), "software", "MMF-135", "environment with a Python", "3.99"
    ),
    "disk full": Planted(limits(disk_fault=HUGE), "disk space", "MMF-132", "Free space", "are needed"),
    "disk nearly full": Planted(
        limits(disk_warning=HUGE), "disk space", "MMF-132", "Free space", "only", State.WARNING
    ),
    "no home": Planted(no_home, "home", "MMF-423", "--home", "no such folder"),
    "folder missing": Planted(removed("state"), "home", "MMF-423", "mkdir -m 700", "missing"),
    "site.toml missing": Planted(
        removed("site.toml"), "home", "MMF-423", "mmfed-client join", "No such file"
    ),
    "site.toml no TOML": Planted(
        written("site.toml", "site = \n"), "home", "MMF-423", "mmfed-client join", "not a TOML"
    ),
    "site.toml unknown key": Planted(site_line('cohorts = "x"'), "home", "MMF-423", "", "cohorts"),
    "address without port": Planted(
        site_key("address", "fed.example"), "home", "MMF-425", "host:port", "fed.example"
    ),
    "home open to a group": Planted(mode("", 0o770), "permissions", "MMF-133", "chmod go-w", "0770"),
    "policy open to all": Planted(policy_open, "permissions", "MMF-133", "chmod go-w", "0666"),
    "umask 0": Planted(open_umask, "permissions", "MMF-133", "umask 077", "umask 0000", State.WARNING),
    "folder cannot be written": Planted(nowhere, "writing", "MMF-112", "right to write", "cannot be written"),
    "key missing": Planted(
        removed("key.pem"), "key", "MMF-411", "new join kit", "no key", also=frozenset({"MMF-411"})
    ),
    "key readable by others": Planted(mode("key.pem", 0o644), "key", "MMF-412", "chmod 600"),
    "key damaged": Planted(
        written("key.pem", "-----BEGIN PRIVATE KEY-----\nno\n"), "key", "MMF-411", "new join kit"
    ),
    "key on another curve": Planted(other_curve, "key", "MMF-411", "new join kit", "P-384"),
    "passphrase missing": Planted(under_passphrase(None), "key", "MMF-413", "none is given"),
    "passphrase wrong": Planted(under_passphrase("wrong"), "key", "MMF-413", "given to `mmfed-client join`"),
    "authority missing": Planted(
        removed("trust/ca.pem"), "trust", "MMF-498", "new join kit", "cannot be read"
    ),
    "authority damaged": Planted(
        written("trust/ca.pem", "no"), "trust", "MMF-498", "new join kit", "no certificate"
    ),
    "authority expired": Planted(
        authority_aged(-3), "trust", "MMF-498", "new join kit", "expired at", also=frozenset({"MMF-495"})
    ),
    "authority expires soon": Planted(
        authority_aged(12),
        "trust",
        "MMF-498",
        "new join kit",
        "expires at",
        State.WARNING,
        frozenset({"MMF-495"}),
    ),
    "coordinator's key damaged": Planted(
        written("trust/coordinator.hex", "abc"),
        "trust",
        "MMF-411",
        "restore the key",
        also=frozenset({"MMF-411"}),
    ),
    "coordinator's key missing": Planted(
        removed("trust/coordinator.hex"), "trust", "MMF-423", "mmfed-client join"
    ),
    "ledger changed": Planted(ledger_changed, "ledger", "MMF-310", "ledger verify"),
    "ledger torn": Planted(ledger_torn, "ledger", "MMF-310", RUNNING, "unfinished", State.WARNING),
    "node running": Planted(
        node_running, "other node", "MMF-110", "a second one cannot start", str(os.getpid()), State.WARNING
    ),
}
