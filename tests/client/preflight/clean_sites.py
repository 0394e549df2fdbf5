"""Twenty sites of different kinds that are all in order."""

from __future__ import annotations

import select
import shutil
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from tests.client.cohort.conftest import GENES
from tests.client.preflight.planting import Bench, Plant
from tests.client.preflight.small_site import POLICY, Site

from mmfed_client.approval import approve
from mmfed_client.ledger import Ledger
from mmfed_common.knowledge import KnowledgePack
from mmfed_simulations.processes.programs import free_port

NEVER = 'hours = "03:00-03:01"\ndays = ["sun"]\n'


def forwarding_proxy(bench: Bench) -> str:
    """Start a proxy that does as it is asked; gives its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    bench.stack.callback(listener.close)
    threading.Thread(target=_proxy, args=(listener,), daemon=True).start()
    return f"http://site:secret@127.0.0.1:{listener.getsockname()[1]}"


def _proxy(listener: socket.socket) -> None:
    while True:
        try:
            opened, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_forward, args=(opened,), daemon=True).start()


def _forward(near: socket.socket) -> None:
    with suppress(OSError), near:
        asked = b""
        while b"\r\n\r\n" not in asked:
            asked += near.recv(4096)
        host, _, port = asked.split(b" ")[1].decode().rpartition(":")
        assert b"Proxy-Authorization: Basic" in asked or b"proxy-authorization: Basic" in asked
        with socket.create_connection((host, int(port))) as far:
            near.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 hospital\r\n\r\n")
            while True:
                for ready in select.select([near, far], [], [])[0]:
                    piece = ready.recv(65536)
                    if not piece:
                        return
                    (far if ready is near else near).sendall(piece)


def as_it_is(site: Site, bench: Bench) -> None:
    """Change nothing."""


def behind_a_proxy(site: Site, bench: Bench) -> None:
    bench.patch.setenv("HTTPS_PROXY", forwarding_proxy(bench))


def proxy_for_others(site: Site, bench: Bench) -> None:
    bench.patch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    bench.patch.setenv("NO_PROXY", "localhost")


def under_passphrase(site: Site, bench: Bench) -> None:
    site.home.key().save(site.home.key_file, "correct horse")
    bench.patch.setenv("MMFED_PASSPHRASE", "correct horse")


def by_address(site: Site, bench: Bench) -> None:
    site.edit_config(address=f"127.0.0.1:{site.coordinator.port}")


def not_approved(site: Site, bench: Bench) -> None:
    site.home.ledger_file.unlink()


def just_joined(site: Site, bench: Bench) -> None:
    """Nothing is here yet but an offer."""
    not_approved(site, bench)
    for file in site.home.studies.iterdir():
        file.unlink()
    site.coordinator.offers.put(site.coordinator.sign(site.study))


def nothing_offered(site: Site, bench: Bench) -> None:
    """There is no study yet."""
    just_joined(site, bench)
    site.coordinator.offers.withdraw()


def without_cohort(site: Site, bench: Bench) -> None:
    nothing_offered(site, bench)
    site.edit_config(cohort="")


def draft(site: Site, bench: Bench) -> None:
    """A document that is not signed yet."""
    site.given = bench.folder / "draft.json"
    site.given.write_bytes(site.study.canonical())


def parquet(site: Site, bench: Bench) -> None:
    for file in site.cohort.folder.iterdir():
        file.unlink()
    site.cohort.suffix = ".parquet"
    site.cohort.description["tables"] = {}
    site.write()


def study(**sections: dict[str, object]) -> Plant:
    """A study of another kind."""

    def change(site: Site, bench: Bench) -> None:
        for name, values in sections.items():
            site.content.setdefault(name, {}).update(values)
        site.approve()

    return change


def contract(change: Callable[[dict[str, object]], object]) -> Plant:
    """A contract of another kind."""

    def plant(site: Site, bench: Bench) -> None:
        change(site.content["contract"])
        site.approve()

    return plant


def clinical_only(wanted: dict[str, object]) -> None:
    for name in ("gene", "protein", "imaging", "response", "toxicity"):
        wanted.pop(name)


def toxicity_only(wanted: dict[str, object]) -> None:
    for name in ("survival", "response"):
        wanted.pop(name)


def two_people(site: Site, bench: Bench) -> None:
    site.home.policy_file.write_text(POLICY + "two_person = true\n")
    site.content["study"]["version"] = "2"
    signed = site.approve()
    approve(site.home, Ledger(site.home.ledger_file), signed, "Bob Best")


def at_night(site: Site, bench: Bench) -> None:
    site.home.policy_file.write_text(POLICY + NEVER)


def with_pack(site: Site, bench: Bench) -> None:
    pack = KnowledgePack.assemble(GENES, aliases={"MLL": ["KMT2A"]})
    site.content["contract"]["gene"]["panel"] = "knowledge"
    site.content["contract"]["knowledge"] = {"file": "pack.mmfk", "sha256": pack.sha256}
    site.approve()
    pack.save(site.home.pack_file(pack.sha256))


def moved(site: Site, bench: Bench) -> None:
    """A home elsewhere, with a space in its name, and the cohort beside it."""
    home = bench.folder / "our site"
    shutil.move(site.home.path, home)
    shutil.copytree(site.cohort.folder, bench.folder / "tables")
    site.home.path = home
    site.edit_config(cohort="../tables/cohort.toml")


def much_recorded(site: Site, bench: Bench) -> None:
    ledger = Ledger(site.home.ledger_file)
    for number in range(300):
        ledger.append("receipt", {"study": "0" * 64, "kind": "train", "round": number, "bytes": 1000})


def after_a_crash(site: Site, bench: Bench) -> None:
    """The lock file of a node that is long dead."""
    site.home.lock_file.write_text("4194303\n")
    site.home.status_file.write_text("{}")


def same_offer(site: Site, bench: Bench) -> None:
    site.coordinator.offers.put(site.coordinator.sign(site.study))


def group_of_its_own(site: Site, bench: Bench) -> None:
    """Files as a umask of 0002 makes them, in a home that only its owner may enter."""
    for path in site.home.path.rglob("*"):
        if path.is_file() and path != site.home.key_file:
            path.chmod(0o664)


def one_name_for_all(site: Site, bench: Bench) -> None:
    site.cohort.clinical["hospital"] = "old name"
    site.write()


CLEAN: dict[str, Plant] = {
    "as it is": as_it_is,
    "behind a proxy with a password": behind_a_proxy,
    "a proxy for others": proxy_for_others,
    "key under a passphrase": under_passphrase,
    "server by its address": by_address,
    "not approved yet": not_approved,
    "just joined, a study on offer": just_joined,
    "just joined, nothing on offer": nothing_offered,
    "no cohort yet": without_cohort,
    "a draft of a study": draft,
    "tables in parquet": parquet,
    "clinical data only": contract(clinical_only),
    "toxicity only": contract(toxicity_only),
    "all patients in one step": study(training={"batch": 0}),
    "scaled by reference values": contract(lambda wanted: wanted.update(normalisation="reference")),
    "scaled by the site itself": contract(lambda wanted: wanted.update(normalisation="site")),
    "nobody held out": study(evaluation={"rule": "none"}),
    "this site is the test site": study(evaluation={"rule": "site", "sites": ["north"]}),
    "FedProx": study(aggregation={"strategy": "fedprox", "proximal_mu": 0.1}),
    "two people approved": two_people,
    "works at night": at_night,
    "with a knowledge pack": with_pack,
    "home with a space in its name": moved,
    "a long ledger": much_recorded,
    "after a crash": after_a_crash,
    "the approved study is on offer": same_offer,
    "a umask of 0002": group_of_its_own,
    "one site name for all rows": one_name_for_all,
}
