"""Reference values: means and deviations of features in public cohorts, kept in the knowledge pack.

A study with ``normalisation = "reference"`` standardises with them, so that no site has to tell anything
about its own patients, and nothing has to be paid for under differential privacy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mmfed_client.cohort import load_cohort, load_description
from mmfed_common.errors import ModelError
from mmfed_common.graph import build_topology
from mmfed_common.knowledge import KnowledgePack, Source
from mmfed_common.scaling import Moments, Scaling, standardised
from mmfed_common.study import Study

LEAST_PATIENTS = 30
"""Of fewer patients with a value, nothing is known that is worth being a reference."""
SECTIONS: dict[str, str] = {
    "gene": "gene",
    "protein": "protein",
    "metabolite": "metabolite",
    "imaging_feature": "imaging",
}


def with_references(
    pack: KnowledgePack,
    study: Study,
    cohorts: Sequence[tuple[Path, Path | None]],
    node_types: Sequence[str],
    source: Source,
) -> KnowledgePack:
    """Add what features are like in public cohorts to a pack; older references of the same kind go.

    Parameters
    ----------
    study
        Its contract says how the tables are read: transforms, clipping, panels. Clinical columns have their
        reference values in the contract itself.
    cohorts
        Folders with ``cohort.toml``, each with the folder of its tables, if that is another.
    node_types
        Which features: ``gene``, ``protein``, ``metabolite``, ``imaging_feature``.
    source
        What to name as their source.

    Raises
    ------
    CohortError
        ``MMF-200`` with every fault of a cohort.
    ModelError
        ``MMF-608`` when the study has no such features.
    """
    absent = [name for name in node_types if name not in study.contract.node_types]
    if absent:
        raise ModelError("MMF-608", f"the study has no features of the kind {absent[0]}", study.study.name)
    gone: dict[str, Any] = {"demographics": {}, "clinical": {}, "relations": {"source": "none"}}
    gone |= {section: None for name, section in SECTIONS.items() if name not in node_types}
    contract = study.with_changes(contract=gone).contract
    topology = build_topology(contract, pack)
    moments = []
    for folder, data in cohorts:
        cohort = load_cohort(load_description(folder, data), contract, topology, pack.symbols)
        moments.append(Moments.of(cohort.patients))
    together = Moments.add(moments)
    scaling = Scaling.from_moments(together, contract, topology)
    wanted = standardised(contract, topology)
    references = {key: dict(among) for key, among in pack.references.items()}
    for name in contract.node_types:
        known = wanted[name] & (together.count[name] >= LEAST_PATIENTS)
        table = torch.stack([scaling.mean[name], scaling.deviation[name]])
        for column, channel in enumerate(topology.channels[name]):
            for row, node in enumerate(topology.nodes[name][: len(known)]):
                key, feature = (name, channel) if name == "imaging_feature" else (f"{name}.{channel}", node)
                among = references.setdefault(key, {})
                symbol = (pack.symbols.resolve(feature) or feature) if name == "gene" else feature
                among.pop(symbol, None)
                if bool(known[row, column]):
                    among[symbol] = (float(table[0, row, column]), float(table[1, row, column]))
    entries = sum(len(among) for among in references.values())
    told = replace(source, entries=entries)
    kept = (*(s for s in pack.sources if s.name != source.name), told)
    return KnowledgePack.assemble(
        pack.genes,
        pack.proteins,
        pack.metabolites,
        pack.relations,
        pack.pathways,
        pack.aliases,
        kept,
        references,
    )
