"""From a folder of labelled images to a measured recogniser: `captchabench train PATH`.

train(path) -> Trained                 # training: all of the below, in this order

preparing    labels -> raw Parquet -> normalised shards with folds
plan         size of the images, model, budget: from what was found
trial        one training and its reading of the held-out fold, in a process of its own
trials       runs trials on all cores, with one progress bar
forecast     exact match against the number of training images, and what more images would bring
report       the figures of a run
page, card   the page, and the card of the model
"""
