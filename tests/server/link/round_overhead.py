"""Seconds of a round beyond training: separate node processes, TLS, authentication, nodes that do nothing.

python -m tests.server.link.round_overhead --megabytes 50 --arrays 100 --nodes 3 --rounds 5
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import psutil
from tests.server.link.small_link import SmallLink, end, model, request, wait_until


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser()
    options.add_argument("--megabytes", type=float, default=0.0)
    options.add_argument("--arrays", type=int, default=100)
    options.add_argument("--nodes", type=int, default=3)
    options.add_argument("--rounds", type=int, default=5)
    chosen = options.parse_args()
    sites = tuple(f"site{number}" for number in range(chosen.nodes))
    with tempfile.TemporaryDirectory() as folder:
        small = SmallLink(Path(folder), sites)
        with small.open() as link:
            nodes = [small.node(site) for site in sites]
            try:
                wait_until(lambda: len(link.online()) == chosen.nodes, 60)
                grid = link.grid()
                arrays = model(int(chosen.megabytes * 2**20), chosen.arrays)
                seconds = []
                processes = [psutil.Process(), *(psutil.Process(node.pid) for node in nodes)]
                before = [sum(process.cpu_times()[:2]) for process in processes]
                for _ in range(chosen.rounds):
                    began = time.perf_counter()
                    messages = (request(node, arrays) for node in link.online().values())
                    replies = sum(not reply.has_error() for reply in grid.stream(messages, 300))
                    seconds.append(time.perf_counter() - began)
                    assert replies == chosen.nodes, replies
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                used = [sum(p.cpu_times()[:2]) - b for p, b in zip(processes, before, strict=True)]
                print("seconds a round", [round(s, 3) for s in seconds], f"peak {peak:.0f} MB")
                each = [round(seconds / chosen.rounds, 3) for seconds in used]
                print(f"CPU seconds a round: server {each[0]}, nodes {each[1:]}")
                print({site: (t.up, t.down) for site, t in link.traffic().items()})
            finally:
                for node in nodes:
                    end(node)


if __name__ == "__main__":
    main()
