"""Back ends: what carries messages between the same ServerApp and ClientApp on one machine."""

from mmfed_simulations.backends.base import BACKENDS, Backend, backend_named

__all__ = ["BACKENDS", "Backend", "backend_named"]
