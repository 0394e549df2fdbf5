"""The multimodal network: a clinical block, an additive block and the full block, summed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn

from mmfed_common.model.additive import AdditiveBlock
from mmfed_common.model.clinical import CLINICAL, ClinicalBlock, clinical_values
from mmfed_common.model.full import FullBlock
from mmfed_common.model.kernels import Kernels, choose
from mmfed_common.model.predictions import Predictions
from mmfed_common.patients import NodeTensors, PatientTensors
from mmfed_common.randomness import derive_seed
from mmfed_common.scaling import Scaling
from mmfed_common.study import Level, Study
from mmfed_common.topology import Topology


class MultimodalNetwork(nn.Module):
    """Predict survival, response and toxicity from a patient's graph.

    Every block adds to the logits of the one before through gates that start at zero: at the start the full
    output equals the additive one and the clinical one exactly. ``state_dict`` holds parameters only.

    Parameters
    ----------
    study
        Contract and model section.
    topology
        The graph that all patients share; its edges are kept, not learned.
    """

    def __init__(self, study: Study, topology: Topology) -> None:
        super().__init__()
        contract, section = study.contract, study.model
        self.modalities = contract.node_types
        self.bins: tuple[float, ...] = () if contract.survival is None else contract.survival.bins
        survival = contract.survival
        self.censoring: Literal["bin", "day"] = "bin" if survival is None else survival.censoring
        self.kernel: str = section.kernel
        self.clinical = ClinicalBlock(contract, linear=section.clinical_path)
        others = any(name != CLINICAL for name in self.modalities)
        additive = section.additive_path and others
        self.additive = AdditiveBlock(contract, topology, section) if additive else None
        self.full = FullBlock(contract, topology, section, study.training)

    def forward(self, patients: PatientTensors, scaling: Scaling, level: Level = "full") -> Predictions:
        """Predict.

        Parameters
        ----------
        patients
            Any number of patients, also none.
        scaling
            How their values are standardised.
        level
            ``"clinical"`` or ``"additive"`` compute only the blocks up to that one.
        """
        # The clinical path needs no sparse operation, and fetching the fused ones takes half a second.
        kernels = choose("plain" if level == "clinical" else self.kernel, patients.device)
        wanted = [CLINICAL] if level == "clinical" else list(self.modalities)
        standardised = {n: scaling.apply(n, patients.nodes[n]) for n in wanted if n in self.modalities}
        features = clinical_values(standardised[CLINICAL]) if CLINICAL in standardised else None
        logits, log_variances = self.clinical(features, patients.outcomes.time_days.shape[0])
        if level != "clinical" and self.additive is not None:
            present = {name: patients.nodes[name].present for name in self.modalities}
            logits = _add(logits, self.additive(standardised, present, kernels))
        if level == "full":
            logits = _add(logits, self.full(patients.nodes, standardised, kernels))
        return Predictions(
            logits.get("survival"), logits.get("response"), logits.get("toxicity"), log_variances
        )

    def reconstruction_losses(self, patients: PatientTensors, scaling: Scaling) -> Tensor:
        """Loss of telling hidden values, each patient's own, ``(patients,)``; see :class:`.FullBlock`."""
        return self.full.reconstruction_losses(*self._graph(patients, scaling))

    def contrastive_losses(self, patients: PatientTensors, scaling: Scaling) -> Tensor:
        """Loss of telling patients apart, ``(patients,)``; each depends on all patients of the batch."""
        return self.full.contrastive_losses(*self._graph(patients, scaling))

    def _graph(
        self, patients: PatientTensors, scaling: Scaling
    ) -> tuple[Mapping[str, NodeTensors], dict[str, Tensor], Kernels]:
        standardised = {name: scaling.apply(name, patients.nodes[name]) for name in self.modalities}
        return patients.nodes, standardised, choose(self.kernel, patients.device)

    @staticmethod
    def block_of(parameter_name: str) -> Level:
        """Which block a parameter belongs to, by its name (also as wrapped by Opacus)."""
        first = parameter_name.removeprefix("_module.").split(".", 1)[0]
        if first not in get_args(Level):
            raise KeyError(f"{parameter_name} is not a parameter of this model")
        return cast(Level, first)

    def shrinks(self, parameter_name: str) -> bool:
        """Whether weight decay applies: to the weights of linear layers, and to nothing else.

        Not to baselines and biases, nor to node identities and pathway memberships, whose start carries
        knowledge.
        """
        owner, _, kind = parameter_name.removeprefix("_module.").rpartition(".")
        return kind == "weight" and isinstance(self.get_submodule(owner), nn.Linear)


def _add(logits: dict[str, Tensor], added: dict[str, Tensor]) -> dict[str, Tensor]:
    return {task: value + added[task] for task, value in logits.items()}


def build_model(study: Study, topology: Topology, seed: int | None = None) -> MultimodalNetwork:
    """Build the network with weights that depend only on the study's seed (or on ``seed`` if given).

    Torch's global generator is left as it was.

    Raises
    ------
    ModelError
        ``MMF-609`` when the sizes do not fit together.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(study.study.seed if seed is None else seed, "weights"))
        return MultimodalNetwork(study, topology)
