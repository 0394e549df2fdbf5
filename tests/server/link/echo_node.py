"""A node as a process: answers every message with its arrays plus a number of its own.

Arguments: address, CA, key, [seconds of work]. With a fourth argument it works that long, and makes the file
``KEY.working`` first so that a test can tell.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict

from mmfed_client.fleet.connection import connect
from mmfed_common.errors import NetworkError
from mmfed_common.signing import SiteKey


def main(address: str, ca: str, key: str, seconds: str = "0", *_: str) -> None:
    """Answer for ever; begin anew after every failure, as a supervisor would."""
    parent = os.getppid()
    while os.getppid() == parent:
        try:
            with connect(address, Path(ca), SiteKey.load(Path(key))) as connection:
                while os.getppid() == parent:
                    if (incoming := connection.receive()) is None:
                        continue
                    if float(seconds):
                        Path(f"{key}.working").write_text("working")
                        time.sleep(float(seconds))
                    arrays = incoming.message.content.array_records["arrays"]
                    own = ArrayRecord([array + os.getpid() for array in arrays.to_numpy_ndarrays()])
                    content = RecordDict({"arrays": own, "metrics": MetricRecord({"num-examples": 1})})
                    connection.send(incoming, Message(content, reply_to=incoming.message))
        except NetworkError as error:
            print(f"{error.code} {error.what}", file=sys.stderr, flush=True)
            time.sleep(0.2)


if __name__ == "__main__":
    main(*sys.argv[1:])
