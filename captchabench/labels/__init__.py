"""The labels of a set of images that comes without a declaration.

    find_labels(path) -> LabelledImages            # finding: infers the rule
    find_labels(path, "before-first-underscore")   # or takes the one that `--labels` names
    RULES                                          # rules: every rule by name, with a one-line description
    label_in_name(path, model) -> str              # fitting: the label in one file's name that fits a trained model
    open_labelled(dataset, images, seed)           # source: a declared dataset, to be ingested

A set is a folder, a .zip, .tar, .tar.gz or .tgz archive, a Parquet file, or a folder of Parquet files. A rule says
where a label stands: in the file's name, in the name of its folder, or in a label file beside the images.

    opening    lists images and label files, and reads them; `sources` checks what is hostile
    parquet    the same for Parquet
    names      rules on the name of one image
    tables     label files as rows: CSV, TSV, JSON, JSONL, path<TAB>label, one label per line
    matching   the images that the rows of a label file name
    readings   what each rule makes of a set
    evidence   whether labels look like labels: coverage, alphabet, lengths, repetitions
    finding    the choice of a rule
    source     the images as a source to ingest

Nothing is left out silently. `LabelledImages` lists an image or a row of a label file without a use as a reject, with
its reason. A mistake that no reject can express is an InputError of one line, which names the file and the remedy.
"""
