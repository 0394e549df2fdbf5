"""Metrics with intervals: values by torchsurv, torchmetrics and lifelines; bootstrap over patients.

Others use :func:`combine` and :func:`paired_difference` on what the metric functions measure in each fold.
"""

from mmfed_common.metrics.calibration import (
    calibration_slope,
    calibration_table,
    observed_and_expected,
    risk_thirds,
)
from mmfed_common.metrics.classification import measure_labels, measure_response
from mmfed_common.metrics.coverage import coverage, coverage_limits
from mmfed_common.metrics.d_calibration import (
    CalibrationTest,
    d_calibration,
    d_calibration_shares,
    deaths_over_follow_up,
    residual_test,
)
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
    "CalibrationTest",
    "Censoring",
    "Estimate",
    "Measured",
    "auc_at",
    "bootstrap_counts",
    "brier_scores",
    "calibration_slope",
    "calibration_table",
    "combine",
    "coverage",
    "coverage_limits",
    "d_calibration",
    "d_calibration_shares",
    "deaths_over_follow_up",
    "evaluation_times",
    "harrell_c",
    "integrated_brier",
    "measure_labels",
    "measure_response",
    "observed_and_expected",
    "paired_difference",
    "paired_figure",
    "residual_test",
    "risk_thirds",
    "survival_log_loss",
    "undefined",
    "uno_c",
]
