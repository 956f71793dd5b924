"""Segmentation of text lines into characters and of grids into tiles, without torch."""
