"""What both sides of a federation must agree on: study, contract, graph, model, metrics, errors."""
