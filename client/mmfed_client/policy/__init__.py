"""The policy of a site: what may run there and what may leave it, whatever a study says."""

from mmfed_client.policy.policy import Policy
from mmfed_client.policy.template import POLICY_TEMPLATE
from mmfed_client.policy.violations import Violation, violations

__all__ = ["POLICY_TEMPLATE", "Policy", "Violation", "violations"]
