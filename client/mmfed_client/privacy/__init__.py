"""Differential privacy at a site: training with clipped gradients and noise, and the account of what it costs."""
