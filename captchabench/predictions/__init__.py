"""Parquet formats of what trained models read."""
