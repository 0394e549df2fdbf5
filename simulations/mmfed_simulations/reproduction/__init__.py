"""Published federated benchmarks, run again beside mmfed on the same patients and splits.

The benchmarks are FLamby's (Ogier du Terrail et al., NeurIPS 2022 Datasets and Benchmarks): its sites, its
split, its metric, and the figures that its repository publishes. Each benchmark is a folder with
``cohort.toml`` and ``study.toml``, and an entry in :mod:`.benchmarks`.
"""
