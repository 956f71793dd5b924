"""Compares two commits or two models: what changed, and whether chance explains it."""
