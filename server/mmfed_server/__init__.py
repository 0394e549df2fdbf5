"""The coordinator: strategies, rounds and their checkpoints."""
