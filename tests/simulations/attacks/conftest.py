"""One overfitted model for all tests of attacks."""

from __future__ import annotations

import pytest
from tests.simulations.attacks import overfitted

from mmfed_common.bundle import Bundle
from mmfed_simulations.attacks.shadows import Patients


@pytest.fixture(scope="session")
def everybody() -> Patients:
    """The patients, members and strangers."""
    return overfitted.patients()


@pytest.fixture(scope="session")
def bundle(everybody: Patients, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The model that learned its members by heart."""
    return overfitted.bundle_of(everybody, tmp_path_factory.mktemp("overfitted"))
