"""Noisy sums of features: what they release, what one patient can do to them, what is made of them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.client.privacy.private_sites import SECRET, CountingSpender, plan_with, private_site, private_study
from tests.common.model.conftest import CONTENT, TOPOLOGY, draw_patients

from mmfed_client.privacy import private_sums
from mmfed_client.privacy.noise import SecretStream
from mmfed_client.privacy.sums import noisy_sums, standard_sums
from mmfed_client.training import LocalSite
from mmfed_common.bounds import bounds_of, unbounded
from mmfed_common.contract import Column, Contract, Layer
from mmfed_common.errors import PrivacyError
from mmfed_common.mechanism import Mechanism
from mmfed_common.scaling import Moments, Scaling

NEARLY_NO_NOISE = 1e-9
BOUND = {"minimum": -40.0, "maximum": 40.0}
CONTRACT = Contract.model_validate(
    {
        **CONTENT["contract"],
        "clinical": {
            "age": {"kind": "number", **BOUND},
            "stage": {"kind": "ordinal", "values": ["I", "II", "III"]},
        },
        "gene": {
            "panel": ["a", "b", "c", "d", "e", "f"],
            "layers": {"expression": {"clip": 40.0}, "mutation": {"standardise": False}},
        },
        "protein": {"panel": ["p", "q", "r"], "layer": {"clip": 40.0}},
        "metabolite": {"panel": ["m", "n"], "layer": BOUND},
        "imaging": {"features": ["x", "y", "z"], "maximum_tiles": 4, "layer": {"clip": 40.0}},
    }
)


def paid_study(**privacy: object) -> object:
    return private_study(contract={"normalisation": "federated"}, privacy={"scaling_epsilon": 2.0, **privacy})


def with_plan(site: LocalSite, sigma: float) -> CountingSpender:
    return CountingSpender(replace(plan_with(site, 1.0), scaling=Mechanism(sigma, 1.0, 1)))


def test_without_noise_the_scaling_is_that_of_the_patients() -> None:
    """Except imaging, where a patient counts once, whatever the number of tiles."""
    patients = draw_patients(50, seed=4)
    values = patients.nodes["clinical_feature"].values
    values[:, 1] = values[:, 1].abs().clamp(max=2.0)
    found = noisy_sums(patients, CONTRACT, TOPOLOGY, NEARLY_NO_NOISE, SecretStream(SECRET))
    expected = Scaling.from_moments(Moments.of(patients), CONTRACT, TOPOLOGY).to_arrays()
    for name, tensor in Scaling.from_moments(found.moments, CONTRACT, TOPOLOGY).to_arrays().items():
        if "imaging" not in name:
            torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-4, msg=name)


def test_no_patient_adds_more_than_the_root_of_three_times_the_features() -> None:
    patients = draw_patients(40, seed=5, missing=0.1)
    for node in patients.nodes.values():
        node.values.mul_(1e6)
    found = standard_sums(patients, CONTRACT, TOPOLOGY)
    longest = 0.0
    for one in range(40):
        others = patients.select(torch.tensor([i for i in range(40) if i != one]))
        less = standard_sums(others, CONTRACT, TOPOLOGY)
        longest = max(longest, float((found.flat - less.flat).norm()))
    assert found.sensitivity == pytest.approx(math.sqrt(3 * (2 + 6 + 3 + 2 + 3)), rel=1e-3)
    assert 0.7 * found.sensitivity < longest <= found.sensitivity


@pytest.mark.parametrize("sigma", [0.5, 5.0, 500.0])
def test_whatever_the_noise_leaves_belongs_to_numbers_within_the_bounds(sigma: float) -> None:
    patients = draw_patients(20, seed=6)
    moments = noisy_sums(patients, CONTRACT, TOPOLOGY, sigma, SecretStream(SECRET)).moments
    for name, count in moments.count.items():
        total, square = moments.total[name], moments.square[name]
        known = count > 0
        assert bool((count[known] >= 1).all())
        mean = total[known] / count[known]
        assert bool((mean.abs() <= 40.0 + 1e-9).all())
        assert bool((square[known] / count[known] - mean**2 > 0).all())
        assert bool((total[~known] == 0).all())
    assert not moments.count["gene"][:, 1].any()
    scaling = Scaling.from_moments(moments, CONTRACT, TOPOLOGY)
    assert all(bool((t > 0).all()) for t in scaling.deviation.values())


def test_the_same_sums_are_paid_once_and_other_patients_anew() -> None:
    study = paid_study()
    site = private_site(study)  # type: ignore[arg-type]
    spender = with_plan(site, 1.5)
    first = private_sums(site, spender, SECRET).moments.to_arrays()
    again = private_sums(private_site(study), spender, SECRET).moments.to_arrays()  # type: ignore[arg-type]
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert len({inputs for _, inputs in spender.releases}) == 1
    assert {mechanism for mechanism, _ in spender.releases} == {Mechanism(1.5, 1.0, 1)}
    other = private_site(study, size=61)  # type: ignore[arg-type]
    spender.plan = replace(spender.plan, patients=len(other.fit))
    private_sums(other, spender, SECRET)
    assert len({inputs for _, inputs in spender.releases}) == 2


def test_sums_that_the_study_does_not_pay_for_are_not_made() -> None:
    site = private_site(private_study())
    with pytest.raises(PrivacyError) as caught:
        private_sums(site, CountingSpender(plan_with(site, 1.0)), SECRET)
    assert caught.value.code == "MMF-305"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (Column(kind="number", minimum=0, maximum=99), (0.0, 99.0)),
        (Column(kind="number", minimum=0, maximum=99, transform="log1p"), (0.0, math.log(100.0))),
        (Column(kind="number", minimum=0), None),
        (Column(kind="ordinal", values=("a", "b", "c")), (0.0, 2.0)),
        (Layer(clip=5.0), (-5.0, 5.0)),
        (Layer(clip=5.0, minimum=0.0, maximum=20.0), (0.0, 5.0)),
        (Layer(minimum=-3.0, maximum=3.0, transform="signed_log1p"), (-math.log(4.0), math.log(4.0))),
        (Layer(maximum=3.0), None),
    ],
)
def test_bounds_come_from_ranges_and_clips_after_the_transform(
    source: Column | Layer, expected: tuple[float, float] | None
) -> None:
    found = bounds_of(source)
    assert found == (None if expected is None else pytest.approx(expected))


def test_features_without_bounds_are_named() -> None:
    assert unbounded(CONTRACT) == ()
    assert unbounded(Contract.model_validate(CONTENT["contract"])) == (
        "age",
        "gene.expression",
        "gene.mutation",
        "protein",
        "metabolite",
        "imaging",
    )


def test_the_noise_on_each_sum_has_the_size_that_is_paid() -> None:
    patients = draw_patients(30, seed=7)
    sums = standard_sums(patients, CONTRACT, TOPOLOGY)
    drawn = np.concatenate(
        [(sums.with_noise(2.0, SecretStream.of(SECRET, number)) - sums.flat).numpy() for number in range(400)]
    )
    assert drawn.std() == pytest.approx(2.0 * sums.sensitivity, rel=0.02)
