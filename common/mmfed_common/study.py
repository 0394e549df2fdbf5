"""The study: the document that says everything about a run.

Its SHA-256 over a canonical form is its identity.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from mmfed_common.contract import Contract, Section
from mmfed_common.errors import StudyError
from mmfed_common.heldout import HeldOutRule
from mmfed_common.masking.rules import refuse_unmaskable
from mmfed_common.masking.shared_noise import refuse_unshareable
from mmfed_common.pretraining import Objective, Pretraining, StartFrom
from mmfed_common.provable import refuse_unprovable
from mmfed_common.trainable import Part

Level = Literal["clinical", "additive", "full"]


LONGEST_DEADLINE = 7 * 86400.0
"""Seconds; a site gives up a round that takes longer than its deadline, so there must be an end."""


class Header(Section):
    """Name, version, seed and contact."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
    version: str = "1"
    seed: Annotated[int, Field(ge=0, lt=2**31)]
    contact: str = ""
    description: str = ""


class ModelSection(Section):
    """Preset and sizes; a size that is not given comes from the preset.

    ``pathway_gain`` is the slope at 0 of a pathway's score, which tanh bounds: with 0.3 a patient 3
    deviations out reaches 0.7 of the bound, with 0.1 scores are nearly linear. Wide inputs (proteins,
    metabolites, imaging, genes without pathways) are scaled by ``wide_gain / √width``, so that one learning
    rate suits 2 features and 600.

    ``start_from`` is a bundle whose weights the first round starts from, as far as its nodes, outcomes and
    sizes are those of this study; ``frozen`` names what of it stays as it is.
    """

    preset: Literal["small", "paper"] = "small"
    hidden: Annotated[int, Field(ge=4, le=4096)] | None = None
    heads: Annotated[int, Field(ge=1, le=64)] | None = None
    layers: Annotated[int, Field(ge=0, le=32)] | None = None
    fusion_layers: Annotated[int, Field(ge=0, le=32)] | None = None
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    modality_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.3
    intra_attention: bool = True
    fusion: Literal["attention", "mean"] = "attention"
    clinical_path: bool = True
    additive_path: bool = True
    pathway_tokens: bool = True
    pathway_gain: Annotated[float, Field(gt=0, le=10)] = 0.3
    wide_gain: Annotated[float, Field(gt=0, le=100)] = 3.0
    kernel: Literal["auto", "plain", "fused", "compiled"] = "auto"
    start_from: StartFrom | None = None
    frozen: tuple[Part, ...] = ()

    @model_validator(mode="after")
    def _freezes_what_was_trained(self) -> Self:
        if self.frozen and self.start_from is None:
            raise ValueError("`frozen` needs `start_from`: weights that nobody trained would stay as drawn")
        return self


class Stage(Section):
    """Some consecutive rounds that train one level of the model.

    ``clinical``: baseline hazard and linear clinical path. ``additive``: also the additive block of each
    modality. ``full``: also attention and fusion. ``trains`` names the blocks that move; the others are
    frozen. Empty: the blocks that the level adds. ``sparsity`` is an L1 penalty on what weight decay pulls
    on: weights that carry little go to about 0, those that carry much keep their size.

    ``tail_averaging``: the stage ends with the mean of the global weights after this last share of its rounds
    (tail averaging: Polyak and Juditsky, SIAM J. Control Optim. 30, 1992; Jain et al., JMLR 18, 2018), which
    takes out much of the noise that single rounds end with. 0: with those of the last round.

    ``objective``: ``outcomes``, or training without them, of the full block alone: ``masked_nodes`` fills in
    hidden values of a patient's graph, ``contrastive`` tells two views of a patient from other patients.
    """

    level: Level
    objective: Objective = "outcomes"
    rounds: Annotated[int, Field(ge=1, le=10**6)]
    trains: tuple[Level, ...] = ()
    learning_rate: Annotated[float, Field(gt=0)] = 0.01
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    sparsity: Annotated[float, Field(ge=0)] = 0.0
    server_learning_rate: Annotated[float, Field(gt=0)] | None = None
    # Left out of the canonical form where it is 0: such a study has the hash that it had before the key came.
    tail_averaging: Annotated[float, Field(ge=0, le=1, exclude_if=lambda share: share == 0)] = 0.0

    @model_validator(mode="after")
    def _trains_what_it_computes(self) -> Self:
        levels = get_args(Level)
        if any(levels.index(block) > levels.index(self.level) for block in self.trains):
            raise ValueError(f"a stage of level {self.level} cannot train a block above it")
        if self.objective != "outcomes" and (self.level != "full" or set(self.trains) - {"full"}):
            raise ValueError(f'`objective = "{self.objective}"` is for level full, and trains no other block')
        return self

    @property
    def averages_from(self) -> int:
        """The first of the stage's rounds, from 1, whose weights go into the mean; past the last: none."""
        return self.rounds + 1 - math.ceil(round(self.tail_averaging * self.rounds, 9))

    @property
    def trained_blocks(self) -> tuple[Level, ...]:
        """Blocks that move in this stage."""
        return self.trains or (self.level,)

    @property
    def label(self) -> str:
        """What a round of it is called: its level, or its objective where that is not the outcomes."""
        return self.level if self.objective == "outcomes" else self.objective


class Training(Section):
    """Local training.

    ``batch = 0`` takes all of a site's training patients in one step; ``gradient_clip = 0`` (kept as None)
    cuts no gradient.
    """

    stages: Annotated[tuple[Stage, ...], Field(min_length=1)]
    local_epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    batch: Annotated[int, Field(ge=0, le=2**31)] = 32
    optimiser: Literal["adamw", "sgd"] = "adamw"
    schedule: Literal["constant", "cosine"] = "constant"
    gradient_clip: Annotated[float, Field(gt=0)] | None = 5.0
    validation_fraction: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    patience: Annotated[int, Field(ge=1)] | None = None
    pretraining: Pretraining = Pretraining()

    @field_validator("gradient_clip", mode="before")
    @classmethod
    def _uncut(cls, value: object) -> object:
        return None if type(value) in (int, float) and value == 0 else value

    @model_validator(mode="after")
    def _early_stopping(self) -> Self:
        if self.patience is not None and self.validation_fraction == 0:
            raise ValueError("`patience` needs `validation_fraction` > 0: part of the training patients")
        if self.patience is not None and any(stage.tail_averaging for stage in self.stages):
            raise ValueError("`tail_averaging` and `patience` both say with which weights a stage ends")
        return self

    @property
    def objectives(self) -> frozenset[Objective]:
        """Objectives of all stages."""
        return frozenset(stage.objective for stage in self.stages)

    @property
    def rounds(self) -> int:
        """Rounds of all stages."""
        return sum(stage.rounds for stage in self.stages)

    def stage_of(self, round_number: int) -> tuple[int, Stage]:
        """Give the index and the stage of a round, counted from 1."""
        first = 1
        for index, stage in enumerate(self.stages):
            if first <= round_number < first + stage.rounds:
                return index, stage
            first += stage.rounds
        raise ValueError(f"round {round_number} is not within 1 … {self.rounds}")


class Aggregation(Section):
    """How updates become the next model. Times in seconds.

    ``compression``: the type in which changes of weights travel up. ``secure``: sites mask what they send, so
    that the server learns only the sum over at least ``secure_threshold`` of a round's sites; every change of
    a single weight is clipped to ±``secure_largest_change`` for it.
    """

    strategy: Literal["fedavg", "fedprox", "fedadam"] = "fedavg"
    minimum_sites: Annotated[int, Field(ge=1)] = 2
    minimum_patients: Annotated[int, Field(ge=1)] = 5
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    deadline_seconds: Annotated[float, Field(gt=0, le=LONGEST_DEADLINE)] = 3600.0
    proximal_mu: Annotated[float, Field(ge=0)] = 0.0
    server_learning_rate: Annotated[float, Field(gt=0)] = 0.02
    beta_1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    beta_2: Annotated[float, Field(ge=0, lt=1)] = 0.99
    tau: Annotated[float, Field(gt=0)] = 1e-6
    compression: Literal["none", "fp16", "bf16", "int8"] = "none"
    secure: bool = False
    secure_threshold: Annotated[float, Field(gt=0.5, le=1)] = 0.67
    secure_largest_change: Annotated[float, Field(gt=0, le=1000)] = 1.0


class Privacy(Section):
    """Differential privacy: DP-SGD at each site, the unit is one patient.

    ``epsilon`` and ``delta`` bound what a site's training patients lose in this study, all rounds together.
    ``clipping`` is the largest Euclidean length of one patient's gradient. ``trainable`` names what moves;
    the rest stays as it was sent. ``scaling_epsilon`` is the part of ``epsilon`` that pays for noisy sums of
    features where ``normalisation = "federated"``. ``noise``: ``"site"`` adds enough for the guarantee to
    hold for each update alone; ``"shared"`` a share, with secure aggregation, so that it holds for the sum
    while no more than ``colluding_sites`` of a round's sites help the coordinator or leave their share out.
    """

    mode: Literal["none", "dp"] = "none"
    epsilon: Annotated[float, Field(gt=0, le=1000)] | None = None
    delta: Annotated[float, Field(gt=0, lt=1)] | None = None
    clipping: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    trainable: Literal["all", "heads", "adapters", "linear"] = "all"
    scaling_epsilon: Annotated[float, Field(gt=0, le=1000)] | None = None
    noise: Literal["site", "shared"] = "site"
    colluding_sites: Annotated[int, Field(ge=0, le=10_000)] = 1

    @model_validator(mode="after")
    def _says_how_private(self) -> Self:
        amounts = (self.epsilon, self.delta, self.scaling_epsilon)
        if self.mode == "none" and any(amount is not None for amount in amounts):
            raise ValueError('`epsilon`, `delta` and `scaling_epsilon` need `mode = "dp"`')
        if self.mode == "dp" and (self.epsilon is None or self.delta is None):
            raise ValueError('`mode = "dp"` needs `epsilon` and `delta`')
        if self.scaling_epsilon is not None and self.scaling_epsilon >= (self.epsilon or 0.0):
            raise ValueError("`scaling_epsilon` is a part of `epsilon` and must be smaller")
        return self


class Personal(Section):
    """A site's own heads, after the last round: in comparisons, the arm ``personalised``.

    A site moves the parameters that ``trainable`` names in ``passes`` passes over its training patients,
    while the federated weights pull back as if they were so many further patients. ``pulls`` are the amounts
    tried, beside none, by cross-validation in ``folds`` inner folds; with fewer than ``minimum_patients``
    training patients nothing is tried. Nothing of it leaves the site.
    """

    trainable: Literal["linear", "heads"] = "heads"
    pulls: Annotated[tuple[Annotated[float, Field(gt=0, le=1e6)], ...], Field(min_length=1)] = (100.0, 10.0)
    passes: Annotated[int, Field(ge=1, le=1000)] = 20
    learning_rate: Annotated[float, Field(gt=0)] = 0.05
    folds: Annotated[int, Field(ge=2, le=100)] = 3
    minimum_patients: Annotated[int, Field(ge=4)] = 20


class Evaluation(Section):
    """The held-out rule, bootstrap and least cell.

    ``temperature``: whether a comparison scales the network's survival curves by a temperature that patients
    of the other folds give: none, one for all, or one for each set of modalities that a patient has.
    """

    rule: Literal["hash", "fold", "site", "none"] = "hash"
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    folds: Annotated[int, Field(ge=2)] = 5
    fold: Annotated[int, Field(ge=0)] = 0
    sites: tuple[str, ...] = ()
    minimum_cell: Annotated[int, Field(ge=1)] = 10
    bootstrap: Annotated[int, Field(ge=20)] = 500
    temperature: Literal["none", "common", "scenario"] = "none"
    every: Annotated[int, Field(ge=0)] = 5
    """Evaluate at the sites every so many rounds (and after the last); 0: only after the last."""

    @model_validator(mode="after")
    def _fold_exists(self) -> Self:
        if self.fold >= self.folds:
            raise ValueError(f"`fold` must be below `folds` = {self.folds}")
        if self.rule == "site" and not self.sites:
            raise ValueError('`rule = "site"` needs `sites`')
        return self


class Study(Section):
    """A whole study document."""

    study: Header
    contract: Contract
    model: ModelSection = ModelSection()
    training: Training
    aggregation: Aggregation = Aggregation()
    privacy: Privacy = Privacy()
    personal: Personal = Personal()
    evaluation: Evaluation = Evaluation()

    def canonical(self) -> bytes:
        """Serialise in one way only: JSON, sorted keys, every default written out."""
        content = self.model_dump(mode="json")
        return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical form, in hexadecimal: the study's identity."""
        return hashlib.sha256(self.canonical()).hexdigest()

    @property
    def held_out_rule(self) -> HeldOutRule:
        """The held-out rule with the study's seed."""
        e = self.evaluation
        return HeldOutRule(self.study.seed, e.rule, e.fraction, e.folds, e.fold, e.sites)

    def with_changes(self, **sections: dict[str, Any]) -> Study:
        """Derive another study, e.g. ``with_changes(evaluation={"fold": 2})``; it has its own hash."""
        content = self.model_dump(mode="json")
        for section, changes in sections.items():
            content[section] = {**content[section], **changes}
        return Study.from_content(content)

    @staticmethod
    def from_content(content: dict[str, Any], where: str = "") -> Study:
        """Validate a parsed document.

        Raises
        ------
        StudyError
            ``MMF-501`` with every fault, each with its key.
        PrivacyError
            ``MMF-304``, ``MMF-305``, ``MMF-360``, ``MMF-361`` or ``MMF-365`` for what a private study cannot
            ask for; ``MMF-381`` for what secure aggregation does not go together with, ``MMF-382`` for noise
            that is shared where no guarantee would hold for the sum.
        """
        try:
            study = Study.model_validate(content)
        except ValidationError as error:
            lines = [f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()]
            raise StudyError("MMF-501", "\n  ".join([f"{len(lines)} fault(s)", *lines]), where) from None
        refuse_unprovable(study, where)
        refuse_unmaskable(study, where)
        if study.privacy.noise == "shared":
            refuse_unshareable(study, where)
        return study

    @staticmethod
    def load(path: Path) -> Study:
        """Read ``study.toml`` (or the canonical JSON).

        Raises
        ------
        StudyError
            ``MMF-501`` when it cannot be read or is not valid.
        """
        try:
            text = path.read_text(encoding="utf-8")
            content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise StudyError("MMF-501", f"cannot be read: {error}", str(path)) from None
        return Study.from_content(content, str(path))
