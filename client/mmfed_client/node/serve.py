"""The node's loop: wait for a message, let the site's app answer it, send what the gate released."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from flwr.app import Context, Message, RecordDict
from flwr.clientapp import ClientApp

from mmfed_client.app import make_client_app
from mmfed_client.fleet.connection import NOBODY_WAITS, FleetConnection, Incoming, connect
from mmfed_client.gate import error_reply
from mmfed_client.logs import about
from mmfed_client.node import reports as r
from mmfed_client.node.prepare import Prepared
from mmfed_client.node.reports import Reports
from mmfed_common import messages as m
from mmfed_common.error_codes import CODES
from mmfed_common.errors import MmfedError, NetworkError

logger = logging.getLogger(__name__)

LONGEST_KIND = 40


class Node:
    """One connection's worth of work.

    Parameters
    ----------
    prepared
        The site.
    reports
        Told about everything that happens.
    """

    def __init__(self, prepared: Prepared, reports: Reports) -> None:
        self._prepared = prepared
        self._reports = reports
        self._app: ClientApp = make_client_app(lambda _: prepared.site, prepared.way_out)
        self._context: Context | None = None

    def serve(self) -> None:
        """Connect and answer messages until something ends it.

        Raises
        ------
        NetworkError
            Why the connection ended.
        PrivacyError
            ``MMF-310`` to ``MMF-312`` when no receipt can be written: then nothing may leave.
        """
        p = self._prepared
        with connect(p.address, p.ca, p.key, most_message=p.site.most_message) as link:
            self._reports.tell(r.CONNECTED, node=str(link.node_id))
            logger.info("connected to %s", p.address)
            while True:
                incoming = link.receive()
                if incoming is None:
                    self._reports.tell(r.HEARTBEAT)
                else:
                    self._answer(link, incoming)

    def _answer(self, link: FleetConnection, incoming: Incoming) -> None:
        kind, number = _described(incoming.message)
        self._reports.tell(r.WORKING, kind=kind, round=number)
        began = time.perf_counter()
        reply = self._reply(link, incoming)
        objects = self._prepared.way_out.take_objects(reply)
        try:
            link.send(incoming, reply, objects)
        except NetworkError as error:
            if error.code != NOBODY_WAITS:
                raise
            self._reports.error(r.REFUSED, error, kind=kind, round=number)
            logger.warning("%s came too late", kind, extra=about(kind=kind, round=number, code=error.code))
            return
        size, seconds = sum(len(content) for _, content in objects), time.perf_counter() - began
        if reply.has_error():
            code, _, cause = (reply.error.reason or "").partition(" ")
            self._reports.tell(r.REFUSED, code=code, cause=f"{kind}: {cause}", kind=kind, round=number)
            logger.warning("%s was refused", kind, extra=about(kind=kind, round=number, code=code))
        else:
            notice = _notice(incoming.message)
            if notice:
                text = "the coordinator did not take an answer of this site: %s"
                logger.warning(text, CODES[notice].meaning, extra=about(code=notice))
            self._reports.tell(r.SENT, kind=kind, round=number, bytes=size, notice=notice)
            sent = about(kind=kind, round=number, bytes=size, seconds=round(seconds, 3))
            logger.info("answered %s", kind, extra=sent)

    def _reply(self, link: FleetConnection, incoming: Incoming) -> Message:
        """Let the app answer; what it does not know at all, e.g. a new kind of message, is refused."""
        run = incoming.run_id
        if self._context is None or self._context.run_id != run:  # one is kept, not each
            self._context = Context(run, link.node_id, {}, RecordDict(), {})
        context = self._context
        try:
            return self._app(incoming.message, context)
        except MmfedError:
            raise  # no receipt could be written: nothing may leave
        except Exception as error:
            logger.error("a message cannot be answered: %s", error, exc_info=True)
            return error_reply(incoming.message, error, self._prepared.way_out)


def _described(message: Message) -> tuple[str, int]:
    """Kind and round of a message, whatever it holds."""
    number = _config(message).get(m.ROUND)
    kind = message.metadata.message_type[:LONGEST_KIND]
    return kind, number if type(number) is int and 0 < number < 2**31 else 0


def _notice(message: Message) -> str:
    """The code for which the coordinator refused this site's last answer; empty without one that is known."""
    notice = _config(message).get(m.NOTICE)
    return notice if isinstance(notice, str) and notice in CODES else ""


def _config(message: Message) -> Mapping[str, object]:
    config: Mapping[str, object] = {}
    return message.content.config_records.get(m.CONFIG, config) if message.has_content() else config
