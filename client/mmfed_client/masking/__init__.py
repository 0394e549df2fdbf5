"""A site's side of secure aggregation: what it sends looks random, and opens only as part of a sum."""
