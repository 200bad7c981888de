"""Networks trained in groups of lanes, evaluated, assessed and kept in checkpoints."""
