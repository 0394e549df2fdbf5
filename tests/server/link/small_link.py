"""A link on loopback with its own authority, for tests of both sides; and nodes as processes of their own."""

from __future__ import annotations

import datetime
import ipaddress
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from starlette.types import Receive, Scope, Send

from mmfed_common.signing import SiteKey
from mmfed_server.federation import Certificates
from mmfed_server.link.http import answer
from mmfed_server.link.link import Link
from mmfed_server.link.state import LEASE, MOST_REPLY
from mmfed_simulations.processes.programs import free_port


def wait_until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition, and fail when it does not come true in time."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "what was waited for did not happen"
        time.sleep(0.01)


async def portal(scope: Scope, receive: Receive, send: Send) -> None:
    """A portal that says which path it was asked for."""
    while (event := await receive()).get("more_body"):
        assert event["type"] == "http.request"
    if event["type"] == "http.request":
        await answer(send, 200, scope["path"].encode(), "text/plain")
    else:
        await answer(send, 413, b"", "")


def make_authority(
    folder: Path, name: str = "test CA"
) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    """A certificate authority; its certificate is written to ``ca.pem``."""
    folder.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP384R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    certificate = (
        _certificate(subject, subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, True, True, False, False), critical=True
        )
        .sign(key, hashes.SHA384())
    )
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key, certificate


def make_server_certificate(
    folder: Path, authority: tuple[ec.EllipticCurvePrivateKey, x509.Certificate]
) -> Certificates:
    """A certificate for loopback, in ``server.pem`` and ``server.key``; written over when there is one."""
    key = ec.generate_private_key(ec.SECP384R1())
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        _certificate(x509.Name([]), authority[1].subject, key)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .sign(authority[0], hashes.SHA384())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "server.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(private)
    return Certificates((folder / "ca.pem").read_bytes(), folder / "server.pem", folder / "server.key")


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(minutes=5))
        .not_valid_after(now + datetime.timedelta(days=1))
    )


@dataclass
class SmallLink:
    """Keys of some sites and what a link needs; :meth:`open` starts it, again and again on the same port."""

    folder: Path
    sites: tuple[str, ...] = ("north", "south", "west")
    lease: float = LEASE
    most_reply: int = MOST_REPLY
    keys: dict[str, SiteKey] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.authority = make_authority(self.folder)
        self.certificates = make_server_certificate(self.folder, self.authority)
        self.port = free_port()
        for site in self.sites:
            self.keys[site] = SiteKey.generate()
            self.keys[site].save(self.folder / f"{site}.pem")

    @property
    def ca(self) -> Path:
        """The authority's certificate."""
        return self.folder / "ca.pem"

    @property
    def address(self) -> str:
        """Where the link is, or will be."""
        return f"127.0.0.1:{self.port}"

    def public(self) -> Mapping[str, bytes]:
        """Site → public key."""
        return {site: key.public.pem() for site, key in self.keys.items()}

    @contextmanager
    def open(self) -> Iterator[Link]:
        """Start the link with all sites enrolled."""
        listen = ("127.0.0.1", self.port)
        options = {"lease": self.lease, "most_reply": self.most_reply}
        with Link(listen, self.certificates, self.folder / "spool", portal, **options) as link:  # type: ignore[arg-type]
            link.set_sites(self.public())
            yield link

    def node(self, site: str, *words: str, address: str = "") -> subprocess.Popen[bytes]:
        """Start a node that gives back what it gets, in a process of its own."""
        file = Path(__file__).with_name("echo_node.py")
        command = [address or self.address, str(self.ca), str(self.folder / f"{site}.pem"), *words]
        return subprocess.Popen([sys.executable, str(file), *command])


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that a test started."""
    process.kill()
    process.wait()


def model(bytes_: int, arrays: int = 4) -> ArrayRecord:
    """Arrays that together have about so many bytes."""
    each = max(1, bytes_ // arrays // 4)
    numbers = np.random.default_rng(1)
    return ArrayRecord([numbers.standard_normal(each).astype(np.float32) for _ in range(arrays)])


def request(node: int, arrays: ArrayRecord, **config: int | float | str) -> Message:
    """A request to train."""
    return Message(RecordDict({"arrays": arrays, "config": ConfigRecord({**config})}), node, "train")


def echo(message: Message) -> Message:
    """A reply that gives the arrays back."""
    arrays = message.content.array_records["arrays"]
    metrics = MetricRecord({"num-examples": len(arrays)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
