"""Secure aggregation, what both sides must agree on: keys, shares, masks, fixed-point numbers, thresholds.

The protocol is that of Bonawitz et al. 2017, "Practical Secure Aggregation for Privacy-Preserving Machine
Learning"; ``docs/masking.md`` says what it gives and what it does not.
"""
