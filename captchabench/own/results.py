"""What a run measured: tables as the benchmark's, the curve over the number of images, and the figures of a report."""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add
from typing import Any

import numpy as np
import polars as pl

from captchabench.own.forecast import Curve, Forecast, Point
from captchabench.own.plan import PARTS
from captchabench.own.runs import Run, specs_of
from captchabench.own.trial import PREDICTIONS, RESULT, SCRATCH, UNSEEN
from captchabench.predictions.held_out import read_predictions
from captchabench.samples.shards import read_names
from captchabench.scoring.cells import ScoredCell, score_predictions
from captchabench.scoring.counts import Counts
from captchabench.scoring.intervals import TAILS, Interval, edit_intervals, resample, wilson
from captchabench.scoring.leaderboard import Timing, classes, confusions, leaderboard
from captchabench.scoring.metrics import macro_scores
from captchabench.storage.files import replacing_file
from captchabench.studies.confidence import calibration_table, coverage_at_target, read_confidences, risk_table
from captchabench.studies.label_errors import suspects

# Shares for which the number of images needed is named.
TARGETS = (0.9, 0.95, 0.99)
_RELIABLE = 0.95
_RESAMPLES = 2000
_NO_TIMING = Timing(0.0, 1, 1.0, "", 1)


def collect(run: Run) -> None:
    """Put what the trials read where the benchmark keeps predictions, and remove what other runs left in the folder."""
    specs = specs_of(run)
    kept = {spec.name for spec in specs}
    cells = {str(cell) for cell in run.cells()}
    for cell in run.cells():
        with replacing_file(run.predictions(cell)) as temporary:
            shutil.copyfile(run.folder / "trials" / str(cell) / PREDICTIONS, temporary)
    saved = {spec.name for spec in specs if spec.weights}
    for folder, names in (("trials", kept), ("models", saved), ("predictions", cells)):
        for path in (run.folder / folder).iterdir():
            if path.name.removesuffix(".parquet") not in names:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.rmtree(run.folder / SCRATCH, ignore_errors=True)


@dataclass(frozen=True)
class Results:
    """What the models of a finished run read. cells: those measured, then the baseline's."""

    run: Run
    cells: Sequence[ScoredCell]

    @classmethod
    def of(cls, run: Run) -> "Results":
        """Score the predictions of a run. Raises InputError if they are damaged."""
        return cls(run, [score_predictions(run.predictions(cell)) for cell in run.cells()])

    @property
    def grids(self) -> bool:
        """Whether tiles were read."""
        return self.run.prepared.found.tiles

    @cached_property
    def counts(self) -> Counts:
        """The counts of the model, over all folds that were held out."""
        return self._of(self.run.plan.model)

    @cached_property
    def baseline(self) -> Counts | None:
        """The counts of the baseline; None if there is none."""
        return self._of(self.run.plan.baseline) if self.run.plan.baseline else None

    def _of(self, model: str) -> Counts:
        return reduce(add, (cell.parts[cell.dataset].counts for cell in self.cells if cell.model == model))

    @cached_property
    def points(self) -> list[Point]:
        """What models that were trained on a part and on all of the training images read of the first fold."""
        specs = [*(name for name in reversed(PARTS)), str(self.run.cell)]
        return [self._point(name) for name in specs]

    def _point(self, trial: str) -> Point:
        folder = self.run.folder / "trials" / trial
        images = json.loads((folder / RESULT).read_text(encoding="utf-8"))["images"]
        _, table = read_predictions(folder / PREDICTIONS)
        pairs = list(zip(table["label"].to_pylist(), table["prediction"].to_pylist(), strict=True))
        if not self.grids:
            return Point(images, sum(label == text for label, text in pairs), len(pairs))
        right = sum(a == b for label, text in pairs for a, b in zip(label, text, strict=True))
        nine = len(pairs[0][0])
        return Point(nine * images, right, nine * len(pairs))

    @cached_property
    def curve(self) -> Curve | None:
        """The fit over the number of training images; None if a part is as large as the whole."""
        sizes = [point.images for point in self.points]
        return Curve(self.points) if sizes == sorted(set(sizes)) else None

    @cached_property
    def doubled(self) -> Forecast | None:
        """What twice as many training images would bring."""
        return self.curve.at(2 * self.points[-1].images) if self.curve else None

    @cached_property
    def confusions(self) -> pl.DataFrame:
        """See `scoring.leaderboard.confusions`."""
        return confusions(self.cells)

    @cached_property
    def classes(self) -> pl.DataFrame:
        """See `scoring.leaderboard.classes`."""
        return classes(self.cells)

    @cached_property
    def suspects(self) -> pl.DataFrame:
        """Labels that a model contradicts which was not trained on the image.

        With one fold held out, the models of the parts read the images that they have not seen: in all, four fifths.
        One that misreads more than a twentieth of the held-out images accuses too many labels, and is not heard.
        """
        names = read_names(self.run.folder / "shards" / self.run.cell.dataset)
        cells = [cell for cell in self.run.cells() if cell.model == self.run.plan.model]
        read = [read_predictions(self.run.predictions(cell)) for cell in cells]
        if len(self.run.folds) == 1:
            points = dict(zip(reversed(PARTS), self.points, strict=False))
            heard = [part for part, point in points.items() if point.right >= _RELIABLE * point.total]
            read += [read_predictions(self.run.folder / "trials" / part / UNSEEN) for part in heard]
        return suspects(read, {self.run.cell.dataset: names})

    @cached_property
    def confidences(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The tables of calibration, and of precision against coverage."""
        rows = read_confidences(self.run.folder / "predictions", self.run.cells())
        return calibration_table(rows), risk_table(rows)

    @cached_property
    def board(self) -> pl.DataFrame:
        """The results as a leaderboard. Its times mean nothing: they would differ from run to run."""
        timings = dict.fromkeys((cell.cell for cell in self.cells), _NO_TIMING)
        return leaderboard(self.cells, timings, coverage_at_target(self.confidences[1]))

    def figures(self) -> dict[str, Any]:
        """The figures of a report, as JSON values without times, so that a repeated run writes the same."""
        run = self.run
        found, plan, counts = run.prepared.found, run.plan, self.counts
        what = {
            "name": found.name,
            "file": found.images.source.path.name,
            "labels": found.images.rule,
            "task": found.images.task,
            "images": len(found.labels),
            "used": run.prepared.kept,
            "left_out": run.prepared.left_out,
            "alphabet": found.alphabet,
            "classes": list(self.cells[0].class_names.values()),
            "lengths": {} if found.tiles else {str(length): number for length, number in found.lengths.items()},
            "sizes": {f"{width}x{height}": number for (width, height), number in found.sizes.items()},
        }
        how = {
            "model": plan.model,
            "height": found.size.height,
            "width": found.size.width,
            "resize": found.size.resize,
            "parameters": dict(plan.parameters),
            "schedules": list(plan.rounds),
            "held_out_folds": list(run.folds),
        }
        points = [
            {"training_images": p.images, "read": p.right / p.total, "interval": list(wilson(p.right, p.total))}
            for p in self.points
        ]
        needed = {f"{target:.0%}": self.curve.needed(target) for target in TARGETS} if self.curve else {}
        forecast = self.doubled and {
            "training_images": self.doubled.images,
            "read": self.doubled.share,
            "interval": list(self.doubled.interval),
        }
        result = tile_scores(counts) if self.grids else text_scores(counts, case=found.case_occurs)
        beside = {plan.baseline: tile_scores(self.baseline)} if self.baseline else {}
        return {
            "set": what,
            "plan": how,
            "result": result,
            "baseline": beside,
            "curve": points,
            "doubled": forecast,
            "training_images_needed": needed,
            "suspects": self.suspects.height,
        }


def text_scores(counts: Counts, *, case: bool) -> dict[str, Any]:
    """The metrics of texts, with intervals. case: whether letters occur in both cases."""
    cer = edit_intervals(counts.images).cer
    scored: dict[str, Any] = {
        "images": counts.n,
        "exact": counts.exact / counts.n,
        "exact_interval": list(wilson(counts.exact, counts.n)),
        "cer": counts.edits / counts.characters,
        "cer_interval": list(cer) if cer else None,
    }
    if case:
        scored["exact_folded"] = counts.exact_folded / counts.n
        scored["exact_folded_interval"] = list(wilson(counts.exact_folded, counts.n))
    return scored


def tile_scores(counts: Counts) -> dict[str, Any]:
    """The metrics of tiles, with intervals; a challenge asks for all tiles of one class in a grid."""
    assert counts.selections is not None
    tiles = counts.characters
    right = tiles - counts.edits
    challenges = sum(n for n, _ in counts.selections.values())
    solved = sum(solved for _, solved in counts.selections.values())
    return {
        "tiles": tiles,
        "macro_f1": macro_scores(counts)[2],
        "macro_f1_interval": list(macro_f1_interval(counts.confusion)),
        "tiles_right": right / tiles,
        "tiles_right_interval": list(wilson(right, tiles)),
        "challenges": challenges,
        "challenges_solved": solved / challenges,
        "challenges_solved_interval": list(wilson(solved, challenges)),
    }


def macro_f1_interval(confusion: Mapping[tuple[str, str], int]) -> Interval:
    """Percentile bootstrap over tiles of the macro F1. confusion: (actual, predicted) -> tiles.

    A class that a resample lacks is left out of its mean.
    """
    pairs = sorted(confusion)
    names = sorted({actual for actual, _ in pairs} | {read for _, read in pairs})
    counts = resample(np.array([confusion[pair] for pair in pairs], np.int64), _RESAMPLES, seed=0)
    actual = np.array([[pair[0] == name for name in names] for pair in pairs], np.int64)
    read = np.array([[pair[1] == name for name in names] for pair in pairs], np.int64)
    shown, predicted, hits = counts @ actual, counts @ read, counts @ (actual & read)
    f1 = 2 * hits / np.maximum(shown + predicted, 1)
    means = (f1 * (shown > 0)).sum(axis=1) / (shown > 0).sum(axis=1)
    low, high = np.quantile(means, TAILS)
    return Interval(float(low), float(high))


def ends(interval: Sequence[float]) -> str:
    """Both ends of an interval of shares, in per cent, as "93.1–95.0"."""
    return "–".join(f"{100 * end:.1f}" for end in interval)


def score_ends(interval: Sequence[float]) -> str:
    """Both ends of an interval of F1, as "0.931–0.950"."""
    return "–".join(f"{end:.3f}" for end in interval)
