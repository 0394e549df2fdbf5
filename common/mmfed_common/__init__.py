"""What both sides of a federation must agree on: study, contract, graph, model, metrics, errors."""

from mmfed_common.flower_environment import switch_off_reporting

switch_off_reporting()
