"""From encoded images to grey images of one size, with labels, folds and a list of rejects."""
