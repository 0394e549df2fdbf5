"""A site's cohort: its own tables, described by ``cohort.toml``, checked and read as tensors."""

from mmfed_client.cohort.description import CohortDescription, load_description
from mmfed_client.cohort.load import Cohort, check_cohort, load_cohort
from mmfed_client.cohort.report import faults_as_json, format_faults

__all__ = [
    "Cohort",
    "CohortDescription",
    "check_cohort",
    "faults_as_json",
    "format_faults",
    "load_cohort",
    "load_description",
]
