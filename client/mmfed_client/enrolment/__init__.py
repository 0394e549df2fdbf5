"""How a site joins a federation, and speaks with its coordinator's portal from then on."""

from __future__ import annotations

from mmfed_client.enrolment.join import JoinResult, join
from mmfed_client.enrolment.portal import PortalClient
from mmfed_client.enrolment.tls import tls_context, tls_context_of

__all__ = ["JoinResult", "PortalClient", "join", "tls_context", "tls_context_of"]
