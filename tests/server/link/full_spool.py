"""A link whose spool lies on a full disk: ``unshare -rm python -m …full_spool FOLDER``; prints what came."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tests.server.link.small_link import SmallLink, end, model, request, wait_until
from tests.server.rounds.full_disk import fill, mount

from mmfed_common.errors import NetworkError
from mmfed_server.link.grid import LinkGrid
from mmfed_server.link.link import Link

MODEL = 600_000


def ask(link: Link, grid: LinkGrid) -> str:
    """Send a model to all; gives how many replies came, or the code of what went wrong."""
    try:
        messages = [request(node, model(MODEL)) for node in link.online().values()]
        return str(sum(not reply.has_error() for reply in grid.stream(messages, 60)))
    except NetworkError as error:
        return error.code


def main(folder: Path) -> None:
    """Fill the disk before a round, and while the sites work; each time go on when there is room."""
    small = SmallLink(folder, ("north", "south"))
    (folder / "spool").mkdir()
    mount(folder / "spool")
    ballast = folder / "spool" / "ballast"
    found = []
    with small.open() as link:
        nodes = [small.node(site, "1") for site in small.sites]
        try:
            grid = link.grid()
            for left in (
                0,
                MODEL + 200_000,
            ):  # no room for the request; room for the request, not the replies
                wait_until(lambda: len(link.online()) == 2, 60)
                fill(ballast, left)
                began = time.monotonic()
                found.append(ask(link, grid))
                found.append(len(link.state.spool))
                assert time.monotonic() - began < 30
                ballast.unlink()
                wait_until(lambda: len(link.online()) == 2, 60)
                found.append(ask(link, grid))
        finally:
            for node in nodes:
                end(node)
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
