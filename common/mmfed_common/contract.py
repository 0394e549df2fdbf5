"""The contract: which features, units, vocabularies and outcomes a cohort must offer.

A frozen pydantic model, part of the study document; unknown keys are errors.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

FIRST_HAZARD = 0.05
"""Of each bin before training, where a study knows no better."""
LARGEST_LOGIT = math.log(0.99 / 0.01)
"""A hazard beyond this at the start is a slip of the pen, such as years given for days."""
GENE_LAYERS: tuple[str, ...] = ("expression", "methylation", "cnv", "mutation")


class Section(BaseModel):
    """Base of every section of a document: frozen, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(Section):
    """One demographic or clinical column.

    ``number``: standardised. ``ordinal``: its rank in ``values``, standardised. ``category``: one 0/1
    feature for each value after the first. ``binary``: 0/1 (or the two ``values``, the second being 1).
    """

    kind: Literal["number", "ordinal", "category", "binary"]
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    values: tuple[str, ...] = ()
    aliases: dict[str, str] = Field(default_factory=dict)
    missing: tuple[str, ...] = ()
    reference_mean: float | None = None
    reference_deviation: Annotated[float, Field(gt=0)] | None = None
    required: bool = True
    transform: Literal["none", "log1p"] = "none"
    """For numbers: applied after the range check; ranges are in the unit, references are after it."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind in ("ordinal", "category") and len(self.values) < 2:
            raise ValueError(f"a column of kind {self.kind} needs at least two `values`")
        if self.kind == "binary" and len(self.values) not in (0, 2):
            raise ValueError("a binary column has no `values` or exactly two")
        unknown = set(self.aliases.values()) - set(self.values)
        if self.values and unknown:
            raise ValueError(f"aliases point to values that are not listed: {sorted(unknown)}")
        return self


class Layer(Section):
    """How one table of measurements is read: a gene layer, proteins, metabolites or imaging."""

    transform: Literal["none", "log1p", "signed_log1p"] = "none"
    clip: Annotated[float, Field(gt=0)] | None = None
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    standardise: bool = True
    reference_mean: float | None = None
    reference_deviation: Annotated[float, Field(gt=0)] | None = None


class Genes(Section):
    """Genes: the panel, the layers measured on it, and the rule for patient-to-gene edges.

    A patient has an edge to a gene when its expression, as standardised by the study, lies at least
    ``edge_threshold`` deviations from the mean, when the gene is mutated, or when |copy number| ≥ 2.
    ``edge_threshold = 0`` links every measured gene.
    """

    panel: Literal["knowledge"] | tuple[str, ...] = "knowledge"
    layers: Annotated[dict[str, Layer], Field(min_length=1)]
    edge_threshold: Annotated[float, Field(ge=0)] = 1.0
    minimum_measured: Annotated[float, Field(ge=0, le=1)] = 0.5

    @model_validator(mode="after")
    def _known_layers(self) -> Self:
        unknown = set(self.layers) - set(GENE_LAYERS)
        if unknown:
            raise ValueError(f"unknown layers {sorted(unknown)}; known are {', '.join(GENE_LAYERS)}")
        return self


class Panel(Section):
    """Proteins or metabolites: a list of names, or every one that the knowledge pack has."""

    panel: Literal["knowledge"] | tuple[str, ...] = "knowledge"
    layer: Layer = Layer()
    minimum_measured: Annotated[float, Field(ge=0, le=1)] = 0.5


class Imaging(Section):
    """Imaging features: one row a patient, or several tiles or slices with coordinates."""

    features: Annotated[tuple[str, ...], Field(min_length=1)]
    layer: Layer = Layer()
    maximum_tiles: Annotated[int, Field(ge=1, le=100_000)] = 1
    neighbours: Annotated[int, Field(ge=1, le=1000)] = 6


class Relations(Section):
    """Where the two correlation relations come from.

    ``study``: the edges listed here (from public reference data). ``site``: pairs whose absolute Spearman
    correlation over the site's own training patients is at least ``threshold``. ``none``: no such edges.
    """

    source: Literal["none", "study", "site"] = "none"
    threshold: Annotated[float, Field(gt=0, le=1)] = 0.3
    clinical_pairs: tuple[tuple[str, str], ...] = ()
    gene_clinical_pairs: tuple[tuple[str, str], ...] = ()
    most_genes: Annotated[int, Field(ge=1)] = 5
    """For ``site``: at most so many genes, the strongest, for one clinical feature."""


class KnownSurvival(Section):
    """What is publicly known of such patients: the share ``alive`` after ``days``."""

    days: Annotated[float, Field(gt=0, le=36525)]
    alive: Annotated[float, Field(gt=0, lt=1)]

    def hazard_logit(self, width_days: float) -> float:
        """Logit of the hazard of a bin of this width, if the hazard rate is the same on every day.

        With the rate λ the hazard is 1 − exp(−λ · width), its odds are exp(λ · width) − 1.
        """
        exponent = -math.log(self.alive) / self.days * width_days
        return exponent + math.log(-math.expm1(-exponent))


class Survival(Section):
    """Overall survival as discrete-time hazards: bin edges and horizons in days.

    ``censoring``: how far a patient counts who was alive when last seen. ``bin``: through the last whole bin.
    ``day``: to that day, with the hazard rate constant within a bin. ``reference_survival``: where hazards
    begin; not given, at 5 % in each bin.
    """

    bins: Annotated[tuple[float, ...], Field(min_length=2)]
    horizons: tuple[float, ...] = (365.25, 1095.75, 1826.25)
    longest: float = 14600.0
    censoring: Literal["bin", "day"] = "bin"
    reference_survival: Annotated[KnownSurvival | None, Field(exclude_if=lambda known: known is None)] = None

    def first_hazard_logits(self) -> list[float]:
        """Logit of each bin's hazard before training."""
        if self.reference_survival is None:
            return [math.log(FIRST_HAZARD / (1 - FIRST_HAZARD))] * len(self.bins)
        edges = (0.0, *self.bins)
        return [self.reference_survival.hazard_logit(end - start) for start, end in pairwise(edges)]

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        if any(b <= a for a, b in zip((0.0, *self.bins), self.bins, strict=False)):
            raise ValueError("`bins` are the upper edges in days and must increase from above 0")
        if not self.horizons or any(not 0 < h <= self.bins[-1] for h in self.horizons):
            raise ValueError("`horizons` must lie within the bins")
        if self.reference_survival is not None and max(self.first_hazard_logits()) > LARGEST_LOGIT:
            raise ValueError("`reference_survival` leaves almost nobody alive in a bin; `days` counts days")
        return self


class Response(Section):
    """Treatment response."""

    classes: tuple[str, ...] = ("none", "partial", "complete")
    aliases: dict[str, str] = Field(default_factory=dict)


class Toxicity(Section):
    """Grade 3+ adverse events, several labels at once."""

    labels: Annotated[tuple[str, ...], Field(min_length=1)]


class KnowledgeReference(Section):
    """The knowledge pack: a file beside the study and the hash that identifies it."""

    file: str
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Contract(Section):
    """Everything a cohort must offer for a study."""

    normalisation: Literal["federated", "site", "reference"] = "federated"
    knowledge: KnowledgeReference | None = None
    demographics: dict[str, Column] = Field(default_factory=dict)
    clinical: dict[str, Column] = Field(default_factory=dict)
    gene: Genes | None = None
    protein: Panel | None = None
    metabolite: Panel | None = None
    imaging: Imaging | None = None
    relations: Relations = Relations()
    survival: Survival | None = None
    response: Response | None = None
    toxicity: Toxicity | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not (self.survival or self.response or self.toxicity):
            raise ValueError("a study needs at least one of survival, response, toxicity")
        both = set(self.demographics) & set(self.clinical)
        if both:
            raise ValueError(f"columns stand in demographics and in clinical: {sorted(both)}")
        if not self.columns and not (self.gene or self.protein or self.metabolite or self.imaging):
            raise ValueError("a study needs at least one feature")
        panels = (self.gene, self.protein, self.metabolite)
        if self.knowledge is None and any(p is not None and p.panel == "knowledge" for p in panels):
            raise ValueError('`panel = "knowledge"` needs `[contract.knowledge]`')
        return self

    @property
    def columns(self) -> dict[str, Column]:
        """Demographic and clinical columns, each sorted by name: together the clinical features.

        Sorted, because a document and its canonical form must give one order of features.
        """
        return {**dict(sorted(self.demographics.items())), **dict(sorted(self.clinical.items()))}

    @property
    def node_types(self) -> tuple[str, ...]:
        """Node types that this study uses, in the order of ``patients.NODE_TYPES``."""
        used = {
            "clinical_feature": bool(self.columns),
            "gene": self.gene is not None,
            "protein": self.protein is not None,
            "metabolite": self.metabolite is not None,
            "imaging_feature": self.imaging is not None,
        }
        return tuple(name for name, present in used.items() if present)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that this study trains, among survival, response, toxicity."""
        present = {"survival": self.survival, "response": self.response, "toxicity": self.toxicity}
        return tuple(name for name, section in present.items() if section is not None)

    def clinical_features(self) -> tuple[str, ...]:
        """Names of the encoded clinical features, in tensor order.

        ``number``, ``ordinal`` and ``binary`` columns give one feature of their own name; a ``category``
        gives ``"column=value"`` for each value after the first.
        """
        names: list[str] = []
        for name, column in self.columns.items():
            if column.kind == "category":
                names += [f"{name}={value}" for value in column.values[1:]]
            else:
                names.append(name)
        return tuple(names)


__all__ = ["GENE_LAYERS", "Column", "Contract", "Genes", "Imaging", "Layer", "Panel", "Relations"]
