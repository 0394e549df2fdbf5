"""What both sides of a federation must agree on: study, contract, knowledge, graph, model, metrics, errors."""
