"""``mmfed-client start``: take part."""

from __future__ import annotations

import signal
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from mmfed_client.cli.arguments import DEFAULT_HOME, Home, home_at, key_passphrase

if TYPE_CHECKING:
    from mmfed_client.status import Status


def start(
    home: Home = DEFAULT_HOME,
    metrics: Annotated[
        int | None,
        typer.Option(
            "--metrics", metavar="PORT", min=0, max=65535, help="Serve Prometheus metrics on 127.0.0.1."
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print no changes of state.")] = False,
) -> None:
    """Take part, until it is asked to stop; after a crash or a cut network it goes on by itself.

    Waits for a study, for approval and for the server as long as it takes.
    `mmfed-client status` says what it is doing and what it waits for.
    `mmfed-client revoke` stops the work within seconds; SIGTERM and Ctrl-C end it.
    Everything is also in log.jsonl of the home, without anything about patients.

    Examples:

        mmfed-client start
        mmfed-client start --home /var/lib/mmfed --metrics 9464
    """
    from mmfed_client.enrolment import PortalClient
    from mmfed_client.supervisor.metrics import Metrics, MetricsServer
    from mmfed_client.supervisor.supervise import Settings, Supervisor

    place = home_at(home)
    passphrase = key_passphrase(place)
    figures = Metrics(place.config.site)
    tell = _Teller(quiet=quiet)

    def listen(status: Status) -> None:
        figures.show(status)
        tell(status)

    supervisor = Supervisor(
        place, lambda: PortalClient(place, passphrase).offer(), Settings(passphrase), listen
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    with ExitStack() as stack:
        if metrics is not None:
            server = stack.enter_context(MetricsServer(figures, metrics))
            tell.line(f"metrics: http://127.0.0.1:{server.port}/metrics")
        supervisor.run()


class _Teller:
    """Prints each change of state once, on stderr."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._last: tuple[str, ...] = ()

    def line(self, text: str) -> None:
        if not self._quiet:
            with suppress(OSError):  # a full disk, or a terminal that is gone: the site's work goes on
                typer.echo(text, err=True)

    def __call__(self, status: Status) -> None:
        from mmfed_client.cli.status import headline

        now = (status.state.value, status.code, status.study_hash, str(status.round))
        if now != self._last:
            self._last = now
            self.line(headline(status))
            if status.next_step and status.state.value != "ready":
                self.line(f"  next: {status.next_step}")
