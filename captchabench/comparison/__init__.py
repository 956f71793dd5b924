"""Two commits, or two models, compared: what changed, and whether chance explains it."""
