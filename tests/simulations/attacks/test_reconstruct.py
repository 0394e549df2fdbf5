"""Gradient inversion: exact where it must be, and hopeless under noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmfed_common.bundle import Bundle
from mmfed_common.errors import ModelError
from mmfed_simulations.attacks.defences import Defence, parse_defences
from mmfed_simulations.attacks.inversion import closed_form, match_gradient
from mmfed_simulations.attacks.reconstruct import Settings, attack_reconstruct
from mmfed_simulations.attacks.shadows import Patients
from mmfed_simulations.attacks.single_update import (
    DpNoise,
    SingleUpdate,
    cosine,
    some_outcomes,
    sum_of_squares,
)


@pytest.fixture(scope="module")
def update(bundle: Bundle) -> SingleUpdate:
    """One more round at the end of the study."""
    return SingleUpdate.of(bundle)


def test_the_update_tells_the_gradient(everybody: Patients, bundle: Bundle, update: SingleUpdate) -> None:
    """What the site's own code sends, and the gradient by definition."""
    data = everybody.sites(bundle.study)[0]
    index = np.array([1, 4, 5])
    site = update.site(data, index)
    seen = update.gradient(data, index)
    direct = update.model_gradient(site, site.patients, update.used_scaling(data), twice=False)
    assert set(seen) == set(direct)
    assert any(name.startswith("additive.") for name in seen)
    for name, value in direct.items():
        torch.testing.assert_close(seen[name], value, atol=2e-6, rtol=1e-3)


def test_a_private_study_is_attacked_as_well(everybody: Patients, bundle: Bundle) -> None:
    private = Defence.parse("dp8").applied(bundle.study, 60)
    target = Bundle(private, bundle.state, bundle.scaling, bundle.metrics, bundle.index)
    index = np.array([2])
    data = everybody.sites(private)[0]
    plain = SingleUpdate.of(bundle).gradient(data, index)
    for name, value in SingleUpdate.of(target).gradient(data, index).items():
        torch.testing.assert_close(value, plain[name])


def test_one_patients_clinical_values_are_read_off_the_update(
    everybody: Patients, bundle: Bundle, update: SingleUpdate
) -> None:
    data = everybody.sites(bundle.study)[1]
    scaling = update.used_scaling(data)
    for patient in (0, 7, 12):
        index = np.array([patient])
        node = data.patients.select(torch.from_numpy(index)).nodes["clinical_feature"]
        truth = scaling.apply("clinical_feature", node)[0, :, 0]
        found = closed_form(update.gradient(data, index))
        assert found is not None
        torch.testing.assert_close(found, truth, atol=1e-3, rtol=1e-3)


def test_a_frozen_clinical_path_has_no_closed_form(update: SingleUpdate) -> None:
    assert closed_form({"additive.gates.gene.survival.weight": torch.ones(1, 4)}) is None


def test_matching_finds_the_genes_of_one_patient(
    everybody: Patients, bundle: Bundle, update: SingleUpdate
) -> None:
    data = everybody.sites(bundle.study)[0]
    index, scaling = np.array([3]), update.used_scaling(data)
    site = update.site(data, index)
    rebuilt = match_gradient(
        update,
        site,
        scaling,
        update.gradient(data, index),
        some_outcomes(data.patients.outcomes, index),
        iterations=200,
        draw=torch.Generator().manual_seed(0),
    )
    truth = scaling.apply("gene", site.patients.nodes["gene"])
    together = torch.corrcoef(torch.stack([rebuilt["gene"].flatten(), truth.flatten()]))[0, 1]
    assert together > 0.95


def test_what_the_gradient_does_not_depend_on_is_not_made_up(everybody: Patients, bundle: Bundle) -> None:
    clinical = SingleUpdate.of(bundle, "clinical")
    data = everybody.sites(bundle.study)[0]
    index = np.array([3])
    rebuilt = match_gradient(
        clinical,
        clinical.site(data, index),
        clinical.used_scaling(data),
        clinical.gradient(data, index),
        some_outcomes(data.patients.outcomes, index),
        iterations=5,
        draw=torch.Generator().manual_seed(0),
    )
    assert torch.isnan(rebuilt["gene"]).all()
    assert torch.isfinite(rebuilt["clinical_feature"]).all()


def test_a_private_step_is_clipped_and_noisy(
    everybody: Patients, bundle: Bundle, update: SingleUpdate
) -> None:
    data = everybody.sites(bundle.study)[0]
    parts = [update.gradient(data, np.array([i])) for i in range(4)]
    draw = torch.Generator().manual_seed(1)
    for count in (1, 4):
        quiet = DpNoise(0.1, 0.0).private(parts[:count], draw)
        assert float(sum_of_squares(quiet).sqrt()) * count <= 0.1 * count * (1 + 1e-5)
    loud = [DpNoise(0.1, 3.0).private(parts, draw) for _ in range(200)]
    quiet = DpNoise(0.1, 0.0).private(parts, draw)
    name = max(quiet, key=lambda n: quiet[n].numel())
    spread = torch.stack([one[name] - quiet[name] for one in loud])
    assert float(spread.std()) == pytest.approx(0.3 / 4, rel=0.05)
    assert float(spread.mean().abs()) < 0.01


def test_masked_sums_show_the_mean_over_all_sites(
    everybody: Patients, bundle: Bundle, update: SingleUpdate
) -> None:
    sites = everybody.sites(bundle.study)[:2]
    index = [np.array([0, 1]), np.array([2, 3, 4])]
    seen = update.seen(sites, index, Defence("secure"), None, torch.Generator())
    first, second = update.gradient(sites[0], index[0]), update.gradient(sites[1], index[1])
    expected = {name: (2 * first[name] + 3 * second[name]) / 5 for name in first}
    assert float(cosine(seen, expected)) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(("name", "most"), [("fp16", 1e-3), ("bf16", 1e-2), ("int8", 1e-2)])
def test_compression_rounds_what_the_server_sees(
    everybody: Patients, bundle: Bundle, update: SingleUpdate, name: str, most: float
) -> None:
    data, index = everybody.sites(bundle.study)[0], np.array([0, 1])
    draw = torch.Generator()
    plain = update.seen([data], [index], Defence("none"), None, draw)
    seen = update.seen([data], [index], Defence.parse(name), None, draw)
    assert any(not torch.equal(seen[key], plain[key]) for key in plain)
    for key, value in plain.items():
        torch.testing.assert_close(seen[key], value, atol=most * float(value.abs().max()) + 1e-6, rtol=most)


def test_one_patient_is_found_without_a_defence_and_not_under_dp(everybody: Patients, bundle: Bundle) -> None:
    settings = Settings(trials=6, iterations=40, level="clinical")
    rows = attack_reconstruct(bundle, everybody, parse_defences(["none", "dp1"]), [1], settings)
    bare, private = rows
    assert bare.clinical_likeness is not None
    assert bare.clinical_likeness.low > 0.99
    assert bare.linking.auc.estimate > 0.9
    assert private.clinical_likeness is not None
    assert private.clinical_likeness.estimate < 0.6
    assert private.linking.auc.estimate < bare.linking.auc.estimate
    assert bare.linking.members == 6


def test_more_patients_than_a_site_has_are_refused(everybody: Patients, bundle: Bundle) -> None:
    with pytest.raises(ModelError) as caught:
        attack_reconstruct(bundle, everybody, parse_defences(["none"]), [500], Settings(1, 1))
    assert caught.value.code == "MMF-622"
