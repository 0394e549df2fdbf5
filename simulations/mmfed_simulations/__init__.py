"""A researcher's machine: synthetic cohorts, back ends, baselines, comparisons and benchmarks."""
