"""From archives to shards: reading, normalising, folds, audit."""
