"""The report of a run or comparison: one HTML page that needs no network and no script."""

from mmfed_simulations.report.page import write_report

__all__ = ["write_report"]
