"""Metrics with intervals: values by torchsurv, torchmetrics and lifelines; bootstrap over patients.

Others use :func:`combine` and :func:`paired_difference` on what the metric functions measure in each fold.
"""

from mmfed_common.metrics.calibration import calibration_table, risk_thirds
from mmfed_common.metrics.classification import measure_labels, measure_response
from mmfed_common.metrics.estimate import (
    Estimate,
    Measured,
    bootstrap_counts,
    combine,
    paired_difference,
    paired_figure,
    undefined,
)
from mmfed_common.metrics.likelihood import survival_log_loss
from mmfed_common.metrics.survival import (
    Censoring,
    auc_at,
    brier_scores,
    evaluation_times,
    harrell_c,
    integrated_brier,
    uno_c,
)

__all__ = [
    "Censoring",
    "Estimate",
    "Measured",
    "auc_at",
    "bootstrap_counts",
    "brier_scores",
    "calibration_table",
    "combine",
    "evaluation_times",
    "harrell_c",
    "integrated_brier",
    "measure_labels",
    "measure_response",
    "paired_difference",
    "paired_figure",
    "risk_thirds",
    "survival_log_loss",
    "undefined",
    "uno_c",
]
