"""From a folder of labelled images to a measured recogniser: `captchabench train PATH`.

`training.train` does all of the below, in this order:

    preparing    labels -> raw Parquet -> normalised shards with folds
    plan         size of the images, model, budget: from what was found
    runs         the trainings of a run
    trial        one training and what it reads, in a process of its own
    trials       runs trials on all cores, with one progress bar
    results      scores and tables; forecast: what more images would bring
    page, card   the page, and the card of the model
    lines        what is printed
"""
