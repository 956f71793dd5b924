"""The Parquet formats of images: raw files as published, and normalised shards."""
