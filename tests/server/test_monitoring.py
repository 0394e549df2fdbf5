"""Figures for Prometheus: what happened is what is told, on loopback only."""

from __future__ import annotations

import socket
import urllib.request

from mmfed_server.monitoring import Metrics
from mmfed_server.plan import RoundReport


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One figure."""
    return metrics.registry.get_sample_value(name, labels)


def test_exactly_one_state_is_on() -> None:
    metrics = Metrics()
    metrics.set_state("waiting")
    assert value(metrics, "mmfed_run_state", state="waiting") == 1
    assert value(metrics, "mmfed_run_state", state="idle") == 0


def test_rounds_updates_and_refusals_are_counted() -> None:
    metrics = Metrics()
    for number in (1, 2):
        metrics.note_round(
            RoundReport(number, 5, "clinical", 0.5, {"train_loss": 1.0 / number}, ("north",), {"south": "x"})
        )
    metrics.note_refusal("south", "MMF-453")
    assert value(metrics, "mmfed_round") == 2
    assert value(metrics, "mmfed_metric", metric="train_loss") == 0.5
    assert value(metrics, "mmfed_updates_total", site="north") == 2
    assert value(metrics, "mmfed_refusals_total", site="south", code="MMF-453") == 1
    assert value(metrics, "mmfed_round_seconds_sum") == 1.0


def test_a_site_that_was_revoked_disappears() -> None:
    metrics = Metrics()
    metrics.set_sites(["north", "south"], ["north"])
    assert value(metrics, "mmfed_site_online", site="south") == 0
    metrics.set_sites(["north"], ["north"])
    assert value(metrics, "mmfed_site_online", site="south") is None
    assert value(metrics, "mmfed_site_online", site="north") == 1


def test_two_federations_on_one_machine_do_not_share_figures() -> None:
    first, second = Metrics(), Metrics()
    first.set_rounds(10, 4)
    assert value(second, "mmfed_round") == 0


def test_it_listens_on_loopback_only_and_stops() -> None:
    metrics = Metrics()
    port = metrics.serve(0)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert b"mmfed_run_state" in answer.read()
    with socket.socket() as other:
        other.bind(("127.0.0.2", port))  # free, so the server holds 127.0.0.1 alone
    metrics.close()
    with socket.socket() as after:
        after.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        after.bind(("127.0.0.1", port))
