"""What is set in the environment so that Flower and Ray report nothing to anyone: set by us, not by the user.

Flower reads these once, when it is imported; so this runs when ``mmfed_common`` is imported.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

SETTINGS: dict[str, str] = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}


def switch_off_reporting() -> None:
    """Switch telemetry, update checks and installs at run time off, unless the user has set them."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


@contextmanager
def quiet_flower(level: int = logging.ERROR) -> Iterator[None]:
    """Keep what Flower logs below a level off the screen: its progress lines say what ours say."""
    logger = logging.getLogger("flwr")
    before = logger.level
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
