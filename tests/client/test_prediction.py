"""Predictions of a site's own patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tests.simulations.small_federation import gene_study, small_sites

from mmfed_client.prediction import predict_site
from mmfed_client.training.losses import CHUNK
from mmfed_common.errors import MmfedError
from mmfed_common.model import build_model
from mmfed_common.scaling import Moments, Scaling

STUDY = gene_study()


def parts(size: int = 40) -> tuple[Any, dict[str, torch.Tensor], Scaling]:
    (data,) = small_sites(STUDY, (size,))
    scaling = Scaling.from_moments(Moments.of(data.training), STUDY.contract, data.topology)
    state = build_model(STUDY, data.topology, seed=3).state_dict()
    return data, {name: tensor + 0.1 for name, tensor in state.items()}, scaling


def test_they_are_the_models_output_for_the_held_out_patients_in_evaluation_mode() -> None:
    data, state, scaling = parts()
    model = build_model(STUDY, data.topology)
    model.load_state_dict(state)
    model.eval()
    with torch.no_grad():
        expected = model(data.test, scaling)
    found = predict_site(STUDY, data, state, scaling)
    assert found.hazard_logits is not None
    assert len(found.hazard_logits) == int(data.held_out.sum())
    torch.testing.assert_close(found.hazard_logits, expected.hazard_logits)
    torch.testing.assert_close(found.response_logits, expected.response_logits)
    assert found.toxicity_logits is None


def test_many_patients_are_predicted_as_each_alone() -> None:
    data, state, scaling = parts(CHUNK + 20)
    index = np.array([CHUNK + 10, 0, CHUNK - 1])
    every = predict_site(STUDY, data, state, scaling, np.arange(len(data.patients)))
    some = predict_site(STUDY, data, state, scaling, index)
    assert every.hazard_logits is not None
    assert some.hazard_logits is not None
    torch.testing.assert_close(some.hazard_logits, every.hazard_logits[torch.from_numpy(index)])


def test_no_patients_give_no_rows() -> None:
    data, state, scaling = parts()
    found = predict_site(STUDY, data, state, scaling, np.zeros(0, dtype=np.int64))
    assert found.hazard_logits is not None
    assert found.hazard_logits.shape == (0, 4)


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_weights_that_do_not_fit_are_refused(change: str) -> None:
    data, state, scaling = parts()
    name = next(iter(state))
    if change == "missing":
        del state[name]
    elif change == "unknown":
        state["clinical.more"] = torch.zeros(1)
    else:
        state[name] = torch.zeros(9, 9)
    with pytest.raises(MmfedError) as caught:
        predict_site(STUDY, data, state, scaling)
    assert caught.value.code == "MMF-605"


def test_a_study_with_federated_scaling_needs_it() -> None:
    data, state, _ = parts()
    with pytest.raises(MmfedError, match="scaling") as caught:
        predict_site(STUDY, data, state, None)
    assert caught.value.code == "MMF-605"
