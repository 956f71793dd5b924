"""The training engine. It trains any `Network` and depends on no model."""
