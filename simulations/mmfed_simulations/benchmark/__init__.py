"""Benchmarks: training speed against PyG, memory and speed of rounds."""
