"""The cells of the benchmark (dataset x model x fold), and which samples each trains on and holds out."""
