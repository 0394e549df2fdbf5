"""Write a synthetic consortium: one folder a site, the knowledge pack, a study for it, and the truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from lifelines.utils import concordance_index

from mmfed_common.contract import Section
from mmfed_common.errors import StudyError
from mmfed_simulations.synthetic.consortium import Consortium
from mmfed_simulations.synthetic.outcomes import CLINICAL_WEIGHTS, RESPONSE_WEIGHTS, TOXICITY_WEIGHTS
from mmfed_simulations.synthetic.pack import make_pack
from mmfed_simulations.synthetic.truth import TOXICITIES


class Rounds(Section):
    """Rounds of each stage of the study that is written."""

    clinical: int = 60
    additive: int = 200
    full: int = 5


def write_consortium(
    consortium: Consortium,
    out: Path,
    *,
    rounds: Rounds | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Write everything below ``out``.

    Returns
    -------
    dict
        What was written: paths, patients and events of each site, the C-index of the planted risk.

    Raises
    ------
    StudyError
        ``MMF-503`` when ``out`` is not empty, ``MMF-508`` when it cannot be written.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise StudyError("MMF-503", "a cohort is only written to a new or empty folder", str(out))
    try:
        return _write(consortium, out, rounds or Rounds(), progress or (lambda _: None))
    except OSError as error:
        raise StudyError("MMF-508", f"cannot write: {error.strerror}", str(error.filename or out)) from None


def _write(
    consortium: Consortium, out: Path, rounds: Rounds, progress: Callable[[str], None]
) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    for site, tables in consortium.tables.items():
        folder = out / site
        folder.mkdir()
        for name, table in tables.items():
            table.to_parquet(folder / f"{name}.parquet", index=False)
        text = _render("cohort.toml.j2", site=site, tables=list(tables), toxicities=TOXICITIES)
        (folder / "cohort.toml").write_text(text, encoding="utf-8")
        progress(site)
    pack = make_pack(consortium.settings, consortium.truth)
    pack.save(out / "knowledge.mmfk")
    study = _render(
        "study.toml.j2",
        settings=consortium.settings,
        pack_sha256=pack.sha256,
        imaging=consortium.truth.imaging,
        toxicities=TOXICITIES,
        rounds=rounds,
    )
    (out / "study.toml").write_text(study, encoding="utf-8")
    truth = truth_document(consortium)
    (out / "truth.json").write_text(json.dumps(truth, indent=2) + "\n", encoding="utf-8")
    consortium.patients.to_parquet(out / "truth.parquet", index=False)
    return {
        "cohort": str(out),
        "study": str(out / "study.toml"),
        "knowledge_sha256": pack.sha256,
        "sites": truth["sites"],
        "c_index_of_planted_risk": truth["c_index_of_planted_risk"],
    }


def planted_c_index(consortium: Consortium) -> float:
    """Harrell's C-index of the planted log-hazard over all patients: what no model can beat on average."""
    frame = consortium.patients
    return float(concordance_index(frame["os_days"], -frame["log_hazard"], frame["os_event"]))


def truth_document(consortium: Consortium) -> dict[str, Any]:
    """Say what is planted, for ``truth.json``."""
    truth, frame = consortium.truth, consortium.patients
    sites = [
        {
            "site": str(site),
            "patients": len(part),
            "events": int(part["os_event"].sum()),
            "lacks": sorted(set(_MODALITIES) - set(consortium.tables[str(site)])),
        }
        for site, part in frame.groupby("site", sort=True)
    ]
    return {
        "settings": consortium.settings.model_dump(mode="json"),
        "c_index_of_planted_risk": planted_c_index(consortium),
        "sites": sites,
        "genes": _weights(truth.genes, truth.gene_weights),
        "pathways": {
            name: [truth.genes[i] for i in truth.cores[name]] for name in sorted(truth.planted_pathways)
        },
        "proteins": _weights(truth.proteins, truth.protein_weights),
        "metabolites": _weights(truth.metabolites, truth.metabolite_weights),
        "imaging": _weights(truth.imaging, truth.imaging_weights),
        "clinical": CLINICAL_WEIGHTS,
        "response": RESPONSE_WEIGHTS,
        "toxicity": TOXICITY_WEIGHTS,
    }


_MODALITIES = ("expression", "methylation", "cnv", "mutation", "protein", "metabolite", "imaging")


def _weights(names: tuple[str, ...], weights: Any) -> dict[str, float]:
    return {name: float(weight) for name, weight in zip(names, weights, strict=True) if weight}


def _render(template: str, **values: Any) -> str:
    environment = Environment(
        loader=PackageLoader("mmfed_simulations.synthetic", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    return environment.get_template(template).render(**values)
