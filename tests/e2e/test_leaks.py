"""What leaves a site, seen on the socket before it is encrypted: no value of any table, and only what the
receipts say, byte for byte."""

from __future__ import annotations

import base64
import hashlib
import math
import re
import struct
from pathlib import Path

import numpy as np
import pandas as pd
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import PushObjectRequest
from tests.e2e.consortium import write_consortium
from tests.e2e.recording_proxy import RecordingProxy, Sent

from mmfed_server.federation import Federation as CoordinatorFolder
from mmfed_simulations.processes.federation import Federation

WATCHED = "site-01"
RUN_SECONDS = 300.0
SMALL = 2000
"""Bytes; requests other than the pushing of an answer's objects hold names, numbers and signatures only."""
RARE = 1000.0
"""No weight, gradient or sum of 40 patients' shares is so large."""
KNOWN = ("/v1/fleet/", "/mmfed/v1/")
TIME_OF_DAY = re.compile(rb"\d\d:\d\d:\d\d(?:\.\d+)?")


def plant(folder: Path) -> dict[str, float | str]:
    """Give a site's tables values that stand nowhere else: a name for every patient, a number a table.

    Returns
    -------
    Where it was planted → the value.
    """
    planted: dict[str, float | str] = {}
    draw = np.random.default_rng(20261121)
    names: dict[str, str] = {}
    for file in sorted(folder.glob("*.parquet")):
        table = pd.read_parquet(file)
        for patient in table["patient_id"]:
            names.setdefault(patient, f"CANARY-{len(names):03d}-{draw.integers(10**9):09d}")
        table["patient_id"] = table["patient_id"].map(names)
        for column in table.select_dtypes("floating").columns:
            broken = table.index[table[column].notna() & (table[column] % 1 != 0)]
            if broken.empty:  # whole numbers, such as a copy number of 0, stand everywhere
                continue
            at = broken[0]
            value = float(table.loc[at, column]) * (1 + 1e-3 * float(draw.uniform()))
            table.loc[at, column] = value
            planted[f"{file.stem}.{column}"] = value
        table.to_parquet(file)
    planted |= {f"patient {name}": name for name in names.values()}
    return planted


def encodings(value: float | str) -> set[bytes]:
    """The forms in which a value could be among other bytes: raw, as text, encoded, rounded, transformed."""
    if isinstance(value, str):
        raw = value.encode()
        whole = {raw, raw[::-1], raw.hex().encode(), value.encode("utf-16-le"), raw.lower()}
        whole |= {hashlib.sha256(raw).digest(), hashlib.sha256(raw).hexdigest().encode()}
        # Three alignments, without the ends that depend on what stands beside.
        whole |= {base64.b64encode(b"x" * shift + raw)[4:-4] for shift in range(3)}
        return whole
    forms = {repr(value).encode(), *(f"{value:.{digits}g}".encode() for digits in (6, 7, 8, 10))}
    numbers = {value, float(np.float32(value)), *((math.log1p(value),) if value > -1 else ())}
    for number in numbers:
        # Four bytes of a weight's size would be met by chance among millions; large numbers are not.
        kinds = "fd" if abs(number) >= RARE else "d"
        forms |= {struct.pack(f"{order}{kind}", number) for order in "<>" for kind in kinds}
    return {form for form in forms if len(form.strip(b"0.")) >= 4}


def neighbours(folder: Path) -> dict[str, bytes]:
    """Two values that stand side by side in a table, as single-precision numbers: eight bytes.

    So a row or a column that left as numbers would be seen, whatever their size.
    """
    pairs = {}
    for file in sorted(folder.glob("*.parquet")):
        table = pd.read_parquet(file).select_dtypes("floating")
        values = table.to_numpy(dtype="<f4")
        for by, lines in (("row", values), ("column", values.T)):
            for number, line in enumerate(lines):
                told = line[np.isfinite(line) & (line % 1 != 0)]
                if len(told) >= 2:
                    pairs[f"{file.stem} {by} {number}"] = told[:2].tobytes()
    return pairs


def found(stream: bytes, planted: dict[str, float | str]) -> list[str]:
    """Which planted values stand in some bytes."""
    timeless = TIME_OF_DAY.sub(b"", stream)  # whose seconds and their fraction may be any number
    return [where for where, value in planted.items() if any(form in timeless for form in encodings(value))]


def pushed(requests: list[Sent]) -> dict[str, int]:
    """Object id → bytes of everything that was pushed; the id must be the hash of the bytes."""
    objects = {}
    for request in requests:
        if request.path.endswith("/push-object"):
            message = PushObjectRequest.FromString(request.body)
            assert hashlib.sha256(message.object_content).hexdigest() == message.object_id
            objects[message.object_id] = len(message.object_content)
    return objects


def test_the_search_finds_what_is_there() -> None:
    planted: dict[str, float | str] = {"a": 6173.182649, "b": "CANARY-001-123456789"}
    assert found(b"..." + struct.pack("<f", 6173.182649), planted) == ["a"]
    assert found(b"after 6173.1826 days", planted) == ["a"]
    assert found(base64.b64encode(b"id=CANARY-001-123456789;"), planted) == ["b"]
    assert found(b"nothing of it", planted) == []


def test_nothing_of_a_sites_tables_leaves_and_receipts_say_all_that_does(tmp_path: Path) -> None:
    there = write_consortium(tmp_path / "consortium", 6, sites=3)
    planted = plant(there.cohorts[WATCHED])
    assert len(planted) > 40
    with Federation(tmp_path / "real", there.cohorts, there.study) as federation:
        federation.found()
        federation.start_server()
        federation.wait_for_server()
        held = CoordinatorFolder.load(federation.home).certificates
        authority = federation.home / "ca" / "ca.pem"
        with RecordingProxy(held.cert_path, held.key_path, authority, federation.port) as proxy:
            for site in there.cohorts:
                federation.join(site)
                if site == WATCHED:
                    federation.redirect(site, proxy.port)
                federation.approve(site)
                federation.start_site(site)
            federation.wait_for("finished", RUN_SECONDS)
            federation.sites[WATCHED].stop()
            streams, requests = proxy.streams(), proxy.requests()
    assert sum(map(len, streams)) > 100_000
    pairs = neighbours(there.cohorts[WATCHED])
    assert len(pairs) > 100
    assert [where for where, pair in pairs.items() if any(pair in stream for stream in streams)] == []
    assert {where: where for stream in streams for where in found(stream, planted)} == {}

    assert [r.path for r in requests if not r.path.startswith(KNOWN)] == []
    large = {r.path for r in requests if len(r.body) > SMALL and not r.path.endswith("/push-object")}
    assert large == set()
    receipts = [entry.body for entry in federation.ledger(WATCHED) if entry.kind == "receipt"]
    written = {name: size for body in receipts for name, size in body["objects"]}
    assert pushed(requests) == written
    announced = {
        message.metadata.message_id
        for r in requests
        if r.path.endswith("/push-messages")
        for message in PushMessagesRequest.FromString(r.body).messages_list
    }
    assert announced == {body["objects"][-1][0] for body in receipts}
