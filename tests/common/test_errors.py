"""Errors: stable codes, fixed public text, exit status by family."""

from __future__ import annotations

import pickle

import pytest

from mmfed_common.error_codes import CODES
from mmfed_common.errors import CohortError, DataError, Fault


def test_what_may_leave_holds_no_data() -> None:
    error = DataError("MMF-206", "patient TCGA-05-4244 has age 999", "clinical.csv row 3")
    assert "TCGA" not in error.public
    assert "999" not in error.public
    assert "TCGA" in str(error)
    assert CODES["MMF-206"].next_step in str(error)
    assert error.exit_code == 2


def test_an_unregistered_code_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        DataError("MMF-999", "no such code")


def test_errors_cross_a_process_boundary() -> None:
    error = pickle.loads(pickle.dumps(CohortError([Fault("MMF-204", "twice", "clinical", 3, "id")])))
    assert isinstance(error, CohortError)
    assert error.faults[0].row == 3
    assert "1 fault" in str(error)
