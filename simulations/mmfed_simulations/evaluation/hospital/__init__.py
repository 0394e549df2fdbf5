"""Worth it for my hospital: each site alone, federated, with its own head; and labels that are flipped."""
