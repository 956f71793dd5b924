"""The training engine. It knows no model: anything that is a `Network` can be trained."""
