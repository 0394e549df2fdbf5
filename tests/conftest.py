"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# First calls compile kernels; the same examples every time, so that a change is judged by itself.
settings.register_profile("mmfed", deadline=None, derandomize=True)
settings.load_profile("mmfed")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public cohorts beside the project; the test is skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("needs the public cohorts at ../shared/data, which are not here")
    return folder
