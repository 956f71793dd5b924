"""From images to a measured recogniser in one call."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from captchabench.errors import InputError
from captchabench.inference.loaded import LoadedRecogniser, load_recogniser
from captchabench.own import lines
from captchabench.own.card import model_card
from captchabench.own.page import own_page
from captchabench.own.plan import plan_for
from captchabench.own.preparing import FOLDS, Found, Options, find, prepare
from captchabench.own.results import Results, collect
from captchabench.own.runs import Run, specs_of
from captchabench.own.trials import run_trials
from captchabench.pool import cores
from captchabench.storage.files import write_json, write_text

DEFAULT_FOLDER = Path("trained")
CARD = "README.md"
PAGE, FIGURES, SUSPECTS, TIMES = "index.html", "report.json", "suspects.csv", "times.json"
_OUTPUTS = {"raw", "shards", "rejects", "models", "predictions", "trials", "scratch", PAGE, FIGURES, SUSPECTS, TIMES}


@dataclass(frozen=True)
class Report:
    """What was measured. folder: of all outputs. page: an HTML file. model: the folder of the recogniser.

    figures: the content of report.json: set, plan, result, baseline, curve, doubled, training_images_needed, suspects.
    """

    folder: Path
    page: Path
    model: Path
    figures: dict[str, Any]


class Trained(NamedTuple):
    """A recogniser and its report."""

    recogniser: LoadedRecogniser
    report: Report


def train(
    path: str | Path,
    *,
    labels: str = "",
    alphabet: str = "",
    case_folded: bool = False,
    model: str = "",
    minutes: float | None = None,
    folds: bool = False,
    out: str | Path | None = None,
    progress: bool = False,
) -> Trained:
    """Train a recogniser on the labelled images at `path` and measure it on images that it was not trained on.

    path: a folder, an archive (.zip, .tar, .tar.gz) or Parquet. labels: the rule that says where labels are, see
    docs/own_images.md; inferred by default. alphabet: the symbols that labels may have; by default those that occur.
    case_folded: labels do not tell upper from lower case. model: the name of another recogniser. minutes: about how
    long to train. folds: hold out each fifth in turn instead of one. out: the folder to write, trained/NAME by default.
    progress: print what is found and measured, and show a progress bar.

    If it was interrupted, an equal call goes on. Two runs write the same bytes, except for times.json. Raises
    InputError for anything that the user can mend.
    """
    started = time.monotonic()

    def tell(text: str) -> None:
        if progress:
            print(text, flush=True)

    if minutes is not None and not minutes > 0:
        raise InputError(f"--minutes {minutes:g}: must be above 0; give about how long a run may take")
    found = find(Path(path), Options(labels, alphabet, case_folded))
    tell(lines.of_found(found))
    folder = Path(out) if out is not None else DEFAULT_FOLDER / found.name
    with _owned(folder, found):
        prepared = prepare(found, folder)
        tell(lines.of_prepared(prepared))
        plan = plan_for(
            prepared.kept,
            found.size,
            tiles=found.tiles,
            photographs=found.photographs,
            model=model,
            minutes=minutes,
            cores=min(cores(), FOLDS),
        )
        run = Run(prepared, plan, tuple(range(FOLDS)) if folds else (0,))
        tell(lines.of_plan(run))
        run_trials(specs_of(run), cores(), progress=progress)
        collect(run)
        results = Results.of(run)
        figures = results.figures()
        write_text(run.weights / CARD, model_card(results, figures))
        write_text(folder / SUSPECTS, results.suspects.write_csv(float_precision=6))
        write_text(folder / PAGE, own_page(results, figures))
        write_json(folder / FIGURES, figures)
        write_json(folder / TIMES, {"seconds": round(time.monotonic() - started, 1), "cores": cores()})
    report = Report(folder, folder / PAGE, run.weights, figures)
    tell(lines.of_results(results, figures))
    tell(lines.of_next(report))
    return Trained(load_recogniser(run.weights), report)


@contextmanager
def _owned(folder: Path, found: Found) -> Iterator[None]:
    """Make `folder`, and keep other runs out of it. Raises InputError if it holds anything else than such a run."""
    folder.mkdir(parents=True, exist_ok=True)
    foreign = sorted(path.name for path in folder.iterdir() if path.name not in _OUTPUTS and path.suffix != ".tmp")
    others = sorted(path.stem for path in (folder / "raw").glob("*.parquet") if path.stem != found.name)
    if foreign or others:
        what = f"{foreign[0]}, which this command did not write" if foreign else f"the images of {others[0]}"
        raise InputError(f"{folder}: holds {what}; give --out another folder")
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(f"{folder}: another run writes there; wait for it, or give --out another folder") from None
    try:
        yield
    finally:
        os.close(handle)
