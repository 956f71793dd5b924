"""The Parquet contracts of what trained models read."""
