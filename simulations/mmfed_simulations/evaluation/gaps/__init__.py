"""Missing modalities: hidden at test, and from a share of the patients in training."""
