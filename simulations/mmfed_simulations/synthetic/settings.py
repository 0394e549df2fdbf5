"""What a synthetic consortium looks like: sizes, gaps, batch effects and the strength of what is planted."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from mmfed_common.contract import Section
from mmfed_common.errors import StudyError

Share = Annotated[float, Field(ge=0, le=0.9)]
Count = Annotated[int, Field(ge=1)]
Spread = Annotated[float, Field(ge=0)]


class Effects(Section):
    """Standard deviation over patients of each part of the log-hazard."""

    clinical: Spread = 1.0
    gene: Spread = 1.5
    protein: Spread = 0.15
    metabolite: Spread = 0.1
    imaging: Spread = 0.15


class SyntheticSettings(Section):
    """Settings of a synthetic consortium.

    Attributes
    ----------
    sites, patients
        Number of sites, and of patients over all sites.
    size_spread
        Deviation of the log of the sites' sizes; 0 makes them equal.
    smallest_site
        No site has fewer patients (as far as ``patients / sites`` allows).
    genes, proteins, metabolites, imaging_features, tiles
        Sizes of the panels; ``tiles`` is the most imaging tiles of one patient.
    pathways, pathway_size
        Number of pathways and of genes in each.
    planted_genes, planted_pathways
        Genes with an effect on the hazard, spread evenly over so many pathways.
    missing
        About how often a patient, and how often a whole site, lacks a modality; expression is missing half
        as often for a patient and never for a site.
    values_missing
        Share of single values that are missing within a measured modality.
    batch_effect
        Deviation of the sites' shifts of each molecular and imaging feature, in deviations of the feature.
    weibull_shape, median_days
        Weibull shape of the time to death and its median for a patient of average risk.
    effects
        Strength of each part of the log-hazard.
    seed
        Seed of every draw.
    """

    sites: Count = 10
    patients: Count = 1000
    size_spread: Spread = 0.8
    smallest_site: Count = 40
    genes: Count = 300
    proteins: Count = 60
    metabolites: Count = 40
    imaging_features: Count = 16
    tiles: Count = 4
    pathways: Count = 24
    pathway_size: Annotated[int, Field(ge=3)] = 5
    planted_genes: Count = 20
    planted_pathways: Count = 4
    missing: Share = 0.05
    values_missing: Share = 0.01
    batch_effect: Spread = 0.2
    weibull_shape: Annotated[float, Field(gt=0)] = 1.2
    median_days: Annotated[float, Field(gt=0)] = 450.0
    effects: Effects = Effects()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.patients < 2 * self.sites:
            raise ValueError(
                f"{self.patients} patients are too few for {self.sites} sites: two each at least"
            )
        if self.planted_pathways > self.pathways:
            raise ValueError("`planted_pathways` cannot exceed `pathways`")
        if self.planted_genes % self.planted_pathways:
            raise ValueError("`planted_genes` must be a multiple of `planted_pathways`")
        if self.planted_genes // self.planted_pathways > self.pathway_size:
            raise ValueError("a pathway is too small for its planted genes; raise `pathway_size`")
        if self.genes < self.planted_genes + self.pathway_size:
            raise ValueError("`genes` must exceed `planted_genes` by at least one pathway")
        for name, least in (("proteins", 4), ("metabolites", 4), ("imaging_features", 3)):
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}")
        return self


def settings_from(**options: Any) -> SyntheticSettings:
    """Make settings from options.

    Raises
    ------
    StudyError
        ``MMF-512`` with every contradiction.
    """
    try:
        return SyntheticSettings(**options)
    except ValidationError as error:
        lines = [_fault(".".join(str(p) for p in e["loc"]), e["msg"]) for e in error.errors()]
        raise StudyError("MMF-512", "; ".join(lines)) from None


def _fault(key: str, message: str) -> str:
    text = message.removeprefix("Value error, ")
    return f"{key}: {text}" if key else text
