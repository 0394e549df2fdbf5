"""Real cohorts that ship inside a package mmfed needs anyway, written as a cohort folder."""

from mmfed_simulations.sources.lung import write_lung

__all__ = ["write_lung"]
