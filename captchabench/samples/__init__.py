"""The Parquet contracts of images: as found (raw) and normalised (shards)."""
