"""A round between real processes over TLS: mmfed beside stock Flower, with the same arrays."""
