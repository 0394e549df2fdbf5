"""The coordinator's side of secure aggregation: it adds masked updates, and opens nothing but their sum."""
