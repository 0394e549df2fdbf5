"""What a study cannot ask for together with secure aggregation is refused with its own code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.simulations.small_federation import small_sites, small_study

from mmfed_common.errors import PrivacyError
from mmfed_common.study_words import study_in_words
from mmfed_simulations.backends import backend_named
from mmfed_simulations.run import run_study


@pytest.mark.parametrize(
    ("sections", "code"),
    [
        ({"aggregation": {"secure": True, "compression": "int8"}}, "MMF-381"),
        ({"aggregation": {"secure": True, "compression": "fp16"}}, "MMF-381"),
        ({"aggregation": {"secure": True}, "privacy": {"noise": "shared"}}, "MMF-382"),
        ({"privacy": {"noise": "shared"}}, "MMF-382"),
    ],
)
def test_what_does_not_go_together_is_refused(sections: dict[str, Any], code: str) -> None:
    with pytest.raises(PrivacyError) as caught:
        small_study(**sections)
    assert caught.value.code == code


def test_a_site_is_told_what_masks_do() -> None:
    words = {topic.title: " ".join(topic.sentences) for topic in study_in_words(small_study())}
    assert "masks" not in " ".join(words.values())
    masked = small_study(aggregation={"secure": True, "secure_largest_change": 0.25})
    words = {topic.title: " ".join(topic.sentences) for topic in study_in_words(masked)}
    assert "under masks" in words["What leaves your site"]
    assert "67%" in words["How the run goes on"]
    assert "±0.25" in words["How the run goes on"]


@pytest.mark.ray
def test_the_engine_on_ray_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    study = small_study(aggregation={"secure": True})
    assert backend_named("ray")
    with pytest.raises(PrivacyError) as caught:
        run_study(study, small_sites(study), tmp_path / "run", backend="ray")
    assert caught.value.code == "MMF-393"
