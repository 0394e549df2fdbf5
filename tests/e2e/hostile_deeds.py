"""What a hostile site sends in place of a good update, over the wire; and how the server answers it.

Those of :mod:`tests.bad_updates` are signed as a good update is. The others are about the seal, the bytes
that travel, and what the door of the server lets in.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message
from flwr.common.constant import ErrorCode
from tests.bad_updates import KINDS, WITHOUT_SEAL, Change, every

from mmfed_client.fleet.connection import FleetConnection, Incoming
from mmfed_common import messages as m
from mmfed_common.errors import NetworkError
from mmfed_common.seal import seal
from mmfed_common.signing import SiteKey

Objects = Sequence[tuple[str, bytes]]
UNSEALED = "MMF-416"
UNREADABLE = "MMF-487"


@dataclass
class Sending:
    """A good update that is about to leave, and an earlier one that was taken.

    Attributes
    ----------
    link, incoming
        The way to the server, and the message that is answered.
    reply
        Sealed.
    key
        The site's.
    earlier
        An update of an earlier round, as it was sent.
    """

    link: FleetConnection
    incoming: Incoming
    reply: Message
    key: SiteKey
    earlier: Message

    def push(self, objects: Objects | None = None) -> None:
        """Send the reply as it is now, or other objects in its place."""
        self.link.send(self.incoming, self.reply, objects)

    def knock(self, reply: Message, objects: Objects, code: str) -> None:
        """Send what the door refuses; the site sees that with this code."""
        try:
            self.link.send(self.incoming, reply, objects)
        except NetworkError as error:
            if error.code == code:
                return
            raise
        raise AssertionError("the door let it in")


@dataclass(frozen=True)
class Deed:
    """What is done, and what comes of it.

    Attributes
    ----------
    send
        Sends it.
    code
        With which the server names the site in that round; empty when it has nothing to name.
    taken
        Whether a good update follows in the same round, and counts.
    heard
        What the next question says of it, where that is another code.
    """

    send: Callable[[Sending], None]
    code: str
    taken: bool = False
    heard: str | None = None

    @property
    def notice(self) -> str:
        """The code that the site hears with the next question; none when its update counted."""
        told = self.code if self.heard is None else self.heard
        return "" if self.taken else told


def signed(change: Change) -> Callable[[Sending], None]:
    """Change the records, and sign what can be signed."""

    def send(sending: Sending) -> None:
        content = sending.reply.content
        change(content)
        if m.ABOUT in content.config_records:
            seal(sending.reply, sending.key)
        sending.push()

    return send


def about_seal(change: Callable[[Sending, ConfigRecord], None]) -> Deed:
    """Change what the ``about`` record says of the seal."""

    def send(sending: Sending) -> None:
        change(sending, sending.reply.content.config_records[m.ABOUT])
        sending.push()

    return Deed(send, UNSEALED)


def on_the_wire(change: Callable[[bytes], bytes]) -> Deed:
    """Change the bytes that all records travel in; all objects have the names that go with their bytes."""
    return Deed(
        lambda sending: sending.push(renamed(sending.link.objects_of(sending.reply), change)), UNREADABLE
    )


def renamed(objects: Objects, change: Callable[[bytes], bytes]) -> list[tuple[str, bytes]]:
    """Change the first chunk, and put its new name, and what follows from it, into all that refer to it."""
    names: dict[str, str] = {}
    found = []
    for name, content in objects:
        if not names:
            body = change(content.partition(b"\0")[2])
            content = b"ArrayChunk  %d\0%s" % (len(body), body)
        for old, new in names.items():
            content = content.replace(old.encode(), new.encode())
        names[name] = hashlib.sha256(content).hexdigest()
        found.append((names[name], content))
    return found


def _unsigned(sending: Sending, about: ConfigRecord) -> None:
    del about[m.SIGNATURE]


def _by_another(sending: Sending, about: ConfigRecord) -> None:
    seal(sending.reply, SiteKey.generate())


def _signature_of_earlier(sending: Sending, about: ConfigRecord) -> None:
    about[m.SIGNATURE] = sending.earlier.content.config_records[m.ABOUT][m.SIGNATURE]


def _changed_after(sending: Sending, about: ConfigRecord) -> None:
    every(lambda values: values + np.float32(1e-3))(sending.reply.content)


def _earlier_records(sending: Sending, about: ConfigRecord) -> None:
    sending.reply.content = sending.earlier.content


def _earlier_signed_anew(sending: Sending) -> None:
    """The arrays of an earlier update under this round's name."""
    content = sending.reply.content
    content[m.ARRAYS] = sending.earlier.content.array_records[m.ARRAYS]
    seal(sending.reply, sending.key)
    sending.push()


def _too_long(sending: Sending) -> None:
    values = np.random.default_rng(1).standard_normal(4 * 2**20, np.float32)  # 16 MiB that are not alike
    sending.reply.content["more"] = ArrayRecord({"more": Array(values)})
    seal(sending.reply, sending.key)
    sending.knock(sending.reply, sending.link.objects_of(sending.reply), "MMF-478")


def _own_words(sending: Sending) -> None:
    error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "patient 17 has died")
    sending.reply = Message(error, reply_to=sending.incoming.message)
    sending.push()


def _earlier_message(sending: Sending) -> None:
    earlier = sending.earlier
    sending.knock(earlier, sending.link.objects_of(earlier), "MMF-477")
    sending.push()


def _cut_object(sending: Sending) -> None:
    objects = sending.link.objects_of(sending.reply)
    (name, content), *rest = objects
    sending.knock(sending.reply, [(name, content[:-3]), *rest], "MMF-478")
    sending.push()


def _as_another(sending: Sending) -> None:
    words = sending.reply.metadata.__dict__
    own = words["_src_node_id"]
    words["_src_node_id"] = own + 1
    sending.knock(sending.reply, sending.link.objects_of(sending.reply), "MMF-472")
    words["_src_node_id"] = own
    sending.push()


DEEDS: dict[str, Deed] = {
    **{
        name: Deed(signed(change), UNSEALED if name in WITHOUT_SEAL else code)
        for name, (change, code) in KINDS.items()
    },
    "unsigned": about_seal(_unsigned),
    "signed by another key": about_seal(_by_another),
    "an earlier update's signature": about_seal(_signature_of_earlier),
    "a signature that is none": about_seal(lambda sending, about: about.update({m.SIGNATURE: "none"})),
    "changed after it was signed": about_seal(_changed_after),
    "an earlier update, byte for byte": about_seal(_earlier_records),
    "an earlier update, signed anew": Deed(_earlier_signed_anew, "MMF-458"),
    "cut short": on_the_wire(lambda body: body[:-3]),
    "longer than it says": on_the_wire(lambda body: body + b"\0\0\0"),
    "no table": on_the_wire(lambda body: bytes(len(body))),
    "a table of all memory": on_the_wire(lambda body: b"\xff" * 8 + body[8:]),
    "noise": on_the_wire(lambda body: np.random.default_rng(1).bytes(len(body))),
    "too long": Deed(_too_long, "MMF-466"),
    "own words": Deed(_own_words, "MMF-404", heard=""),
    "an earlier message": Deed(_earlier_message, "MMF-462", taken=True),
    "bytes of another name": Deed(_cut_object, "", taken=True),
    "another site's number": Deed(_as_another, "", taken=True),
}
"""Name → deed."""
