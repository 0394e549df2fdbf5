"""Evaluation: predictions, scores with intervals, baselines and comparisons of arms on identical patients."""
