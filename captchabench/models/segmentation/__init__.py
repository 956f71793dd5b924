"""Text lines cut into characters, and grids cut into tiles, without torch."""
