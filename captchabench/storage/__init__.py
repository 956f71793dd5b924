"""Atomic file writes and checksums. Nothing here can change a result."""
