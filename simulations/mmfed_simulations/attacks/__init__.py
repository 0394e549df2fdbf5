"""Attacks on our own models: what a released model, or one update, tells about the patients behind it.

Run at release; the figures go on the model card. A defence is measured beside the same attack without it.
"""
