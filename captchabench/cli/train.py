"""The command `captchabench train`. Its imports are inside it: it needs torch and the libraries of the report."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    path: Annotated[
        Path, typer.Argument(metavar="PATH", help="A folder, .zip, .tar.gz or Parquet file of labelled images.")
    ],
    labels: Annotated[
        str,
        typer.Option(metavar="RULE", help="Where labels are: stem, folder, a label file... By default it is inferred."),
    ] = "",
    alphabet: Annotated[
        str, typer.Option(metavar="SYMBOLS", help="The symbols that labels may have; images with others are left out.")
    ] = "",
    case_folded: Annotated[
        bool, typer.Option("--case-folded", help="Labels do not tell upper from lower case: read all as lower case.")
    ] = False,
    model: Annotated[str, typer.Option(metavar="NAME", help="Another model; `captchabench models` lists them.")] = "",
    minutes: Annotated[
        float | None,
        typer.Option(
            help="About how long to train on this machine.", show_default="4 for every 1,000 images, at most 12"
        ),
    ] = None,
    folds: Annotated[
        bool,
        typer.Option("--folds", help="Hold out each fifth in turn: every image is measured, in three times the time."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder to write.", show_default="trained/NAME")
    ] = None,
) -> None:
    """Train a recogniser on your own labelled images, and measure it.

    Labels are found in the names of files or folders, or in a label file. What
    was found is printed first. The model is measured on a fifth of the images,
    which it has not seen. The results are a page with the errors and with how
    many images are needed, and the measured model for predict, export and demo.
    If it is interrupted, the same command goes on.

    \b
    captchabench train captchas.zip
    captchabench train captchas/ --labels before-first-underscore
    captchabench train captchas/ --labels labels.csv:text --case-folded
    captchabench train tiles/ --minutes 20 --folds --out results/tiles

    \b
    RULE is one of
      stem                     ab12c.png, ab12c (1).png
      before-first-underscore  ab12c_007.png; also before-last, after-last,
                               and hyphen, dot, space
      after-number             007_ab12c.png
      folder                   bus/1.png: tiles by class, or texts
      file, FILE, FILE:COLUMN  CSV, TSV, JSON, JSONL, path<TAB>label
      text-files               7.png and 7.txt
      lines, lines-natural     one label a line, in the order of names
    """
    from captchabench.own.training import train as run

    run(
        path,
        labels=labels,
        alphabet=alphabet,
        case_folded=case_folded,
        model=model,
        minutes=minutes,
        folds=folds,
        out=out,
        progress=True,
    )
