"""What is done to predicted survival curves after training, on patients that took no part in it.

Temperatures for each set of modalities, and the conformal lower bound on a patient's survival time.
"""

from mmfed_common.recalibration.conformal import LEVEL, LowerBound, fit_lower_bound
from mmfed_common.recalibration.temperature import Temperature, Temperatures, fit_temperatures

__all__ = [
    "LEVEL",
    "LowerBound",
    "Temperature",
    "Temperatures",
    "fit_lower_bound",
    "fit_temperatures",
]
