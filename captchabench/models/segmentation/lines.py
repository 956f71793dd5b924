"""Segmentation of text lines into characters, in two ways.

`cut_columns` needs no training: it cuts where a boundary crosses little ink. `Segmenter` starts from those cuts and
learns from labelled lines what a centred character looks like. It finds the characters of other lines by that, even if
they touch each other or are crossed by lines.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from captchabench.alphabet import Alphabet
from captchabench.errors import InputError
from captchabench.models.saved import load_arrays, save_arrays
from captchabench.models.segmentation.crops import HEIGHT as CROP_HEIGHT
from captchabench.models.segmentation.crops import WIDTH as CROP_WIDTH
from captchabench.models.segmentation.crops import cut_crops
from captchabench.models.segmentation.ink import fit_ground, ink_strength, level_text
from captchabench.models.segmentation.windows import (
    any_character,
    best_centres,
    cell_features,
    column_scores,
    fit_scorer,
    start_scores,
    this_character,
    weight_rows,
)
from captchabench.networks.readings import Step, Steps
from captchabench.samples.shards import Labels, TextSpec

# Lines are scaled to this height, and to this width per character of the longest label. In pixels.
LINE_HEIGHT, CHARACTER_WIDTH = 32, 20
# The width of windows, as a multiple of the usual distance between two characters.
WINDOW = 1.5
_CHUNK = 256
_FIT_LINES = 1500
_ROUNDS = 4
# Weights of the costs of `cut_columns`. Ink: as a share of the line's height. Strokes: ink in vertical runs of at least
# 5 pixels, so that a thin horizontal line costs nothing.
_CUT_STROKES, _CUT_INK = 5.0, 5.0
_LOST_STROKES, _HOLLOW, _HOLLOW_BELOW = 6.0, 0.2, 0.06
_RUN, _WIDTH_SPREAD = 5, 0.3


@dataclass(frozen=True)
class Segments:
    """The characters found in N lines, at most M per line.

    lengths: [N]. spans: [N, M, 2], left and right edge in columns of the source image, the right one exclusive. Spans
    of neighbours overlap and may extend beyond the image. crops: [N, M, 32, W]; in lines W is 24 and 255 is ink. Spans
    and crops beyond a line's length are 0.
    """

    lengths: NDArray[np.int64]
    spans: NDArray[np.float32]
    crops: NDArray[np.uint8]


def equal_cells(count: int, length: int, width: int) -> NDArray[np.int64]:
    """Boundaries of `length` cells of equal width across `width` columns: [count, length + 1] int64, all rows equal."""
    return np.tile(np.rint(np.linspace(0, width, length + 1)).astype(np.int64), (count, 1))


def cut_columns(strength: NDArray[np.uint8], length: int, pitch: float) -> NDArray[np.int64]:
    """Boundaries of `length` characters in each line: [N, length + 1] int64, columns, ascending.

    strength: [N, H, W] uint8. Dynamic programming over all boundaries, including the outer two. The cost counts ink
    under a boundary, strokes outside the outer ones, nearly empty columns inside, and widths that differ from `pitch`.
    Lines without ink get cells of equal width.
    """
    n, height, width = strength.shape
    inked = strength > 127
    tall = np.zeros((n, height + 1, width), np.uint8)
    tall[:, :height] = inked
    run = np.ones((_RUN, 1), np.uint8)
    strokes = cv2.morphologyEx(tall.reshape(-1, width), cv2.MORPH_OPEN, run).reshape(tall.shape)[:, :height] > 0
    cost = np.zeros((n, width + 1), np.float32)
    for image, weight in ((strokes, _CUT_STROKES), (inked, _CUT_INK)):
        cost[:, 1:-1] += weight / height * (image[:, :, 1:] & image[:, :, :-1]).sum(axis=1)
    profile = strokes.sum(axis=1, dtype=np.float32) / height
    lost = np.pad((_LOST_STROKES * profile).cumsum(axis=1), ((0, 0), (1, 0)))
    hollow = np.pad((_HOLLOW * (profile < _HOLLOW_BELOW)).cumsum(axis=1), ((0, 0), (1, 0)))

    low = max(1, min(round(0.35 * pitch), width // length))
    high = max(low, min(round(2 * pitch), width))
    total = (lost - hollow + cost).astype(np.float32)
    steps = []
    for _ in range(length):
        best = np.full((n, width + 1), np.inf, np.float32)
        step = np.zeros((n, width + 1), np.int64)
        for span in range(low, high + 1):
            sum_ = total[:, : width + 1 - span] + np.float32(0.5 * ((span - pitch) / (_WIDTH_SPREAD * pitch)) ** 2)
            better = sum_ < best[:, span:]
            np.copyto(best[:, span:], sum_, where=better)
            np.copyto(step[:, span:], span, where=better)
        total = best + cost
        steps.append(step)
    column = (total + lost[:, -1:] - lost + hollow).argmin(axis=1)
    path = [column]
    for step in reversed(steps):
        column = column - step[np.arange(n), column]
        path.append(column)
    cuts = np.stack(path[::-1], axis=1)
    any_ink = np.asarray(inked.any(axis=(1, 2)))
    return np.where(any_ink[:, None], cuts, equal_cells(n, length, width))


class Segmenter:
    """Finds the characters of lines that look alike. Fit it before use, or load a fitted one."""

    crop_width = CROP_WIDTH

    def __init__(self, spec: TextSpec) -> None:
        self.spec = spec
        self.line_width = CHARACTER_WIDTH * spec.max_length
        self.ground = np.zeros((spec.height, spec.width), np.uint8)
        self.weights = np.zeros((1, 1), np.float32)
        self.starts = np.zeros(self.line_width, np.float32)
        self.pitch = float(CHARACTER_WIDTH)
        # The score above which a window counts as a character, if the number of characters is unknown.
        self.threshold = 0.0
        self.level = False

    @property
    def parameter_count(self) -> int:
        """The number of learned numbers."""
        return self.ground.size + self.weights.size + self.starts.size + 2

    def fit(self, pixels: NDArray[np.uint8], labels: Labels) -> None:
        """Learn the background, the distance between characters, and what a centred character looks like.

        pixels: [N, H, W] uint8. At most 1,500 lines are used, spread evenly. Texts are levelled if that reads more
        characters of every fifth line after training on the others. Raises InputError if the lines are blank or equal.
        """
        chosen = np.unique(np.linspace(0, len(pixels) - 1, _FIT_LINES).astype(np.int64))
        pixels, labels = pixels[chosen], [labels[i] for i in chosen]
        self.ground = fit_ground(pixels)
        classes = _classes(self.spec.alphabet, labels, self.spec.max_length)
        lines = self._lines(pixels, level=False)
        levelled = level_text(lines)
        centres = self._first_centres(lines, (classes >= 0).sum(axis=1))
        held_out = np.arange(len(lines)) % 5 == 4
        if held_out.any():
            shares = []
            for candidate in (lines, levelled):
                self._learn(candidate[~held_out], classes[~held_out], centres[~held_out], rounds=2)
                shares.append(self._share_read(candidate[held_out], classes[held_out]))
            self.level = shares[1] > shares[0]
        self._learn(levelled if self.level else lines, classes, centres, rounds=_ROUNDS)

    def segment(self, pixels: NDArray[np.uint8], labels: Labels | None = None) -> Segments:
        """Find the characters. pixels: [N, H, W] uint8. labels: the texts of the lines, if known."""
        width = self.spec.max_length
        classes = None if labels is None else _classes(self.spec.alphabet, labels, width)
        lengths = np.zeros(len(pixels), np.int64)
        spans = np.zeros((len(pixels), width, 2), np.float32)
        crops = np.zeros((len(pixels), width, CROP_HEIGHT, CROP_WIDTH), np.uint8)
        for rows in _chunks(len(pixels)):
            lines = self._lines(pixels[rows], level=self.level)
            scores = column_scores(cell_features(lines), self.weights)
            centres = self._find(scores) if classes is None else self._align(scores, classes[rows])
            inked = np.asarray(lines.any(axis=(1, 2)))
            centres = np.where(inked[:, None] | (centres < 0), centres, self._even(centres))
            present = centres >= 0
            lengths[rows] = present.sum(axis=1)
            edges = centres[:, :, None] + 0.5 + np.array([-0.5, 0.5]) * WINDOW * self.pitch
            spans[rows] = np.where(present[:, :, None], edges * (self.spec.width / self.line_width), 0)
            crops[rows] = cut_crops(lines, centres, WINDOW * self.pitch)
        return Segments(lengths, spans, crops)

    def locate(self, pixels: NDArray[np.uint8], readings: Sequence[Steps]) -> list[Steps]:
        """`readings` of the images' characters, with the boxes and crops of the characters added."""
        segments = self.segment(pixels)
        bottom = float(self.spec.height)
        located = []
        parts = zip(readings, segments.lengths, segments.spans.tolist(), segments.crops, strict=True)
        for line, length, spans, crops in parts:
            steps = (
                Step(left, 0.0, right, bottom, step.symbol, step.probability, crop)
                for step, (left, right), crop in zip(line.steps[:length], spans, crops, strict=False)
            )
            located.append(Steps(line.kind, tuple(steps)))
        return located

    def save(self, path: Path) -> None:
        """Write what was learned as an .npz file."""
        scalars = np.array([self.pitch, self.threshold, self.level], np.float64)
        save_arrays(path, {"ground": self.ground, "weights": self.weights, "starts": self.starts, "scalars": scalars})

    def load(self, path: Path) -> None:
        """Read what `save` wrote. Raises InputError if it does not fit this segmenter."""
        arrays = load_arrays(path, ("ground", "weights", "starts", "scalars"))
        shapes = {
            "ground": self.ground.shape,
            "weights": (weight_rows(LINE_HEIGHT), len(self.spec.alphabet)),
            "starts": (self.line_width,),
            "scalars": (3,),
        }
        for name, shape in shapes.items():
            if arrays[name].shape != shape or (arrays[name].dtype == np.uint8) != (name == "ground"):
                raise InputError(f"{path}: {name} does not fit config.json in the same folder; train the model again")
        if not 1 <= arrays["scalars"][0] <= self.line_width:
            raise InputError(
                f"{path}: its distance between characters is {arrays['scalars'][0]}; train the model again"
            )
        self.ground, self.weights, self.starts = arrays["ground"], arrays["weights"], arrays["starts"]
        self.pitch, self.threshold = arrays["scalars"][:2].tolist()
        self.level = bool(arrays["scalars"][2])

    def _lines(self, pixels: NDArray[np.uint8], *, level: bool) -> NDArray[np.uint8]:
        """The ink of lines, scaled to one size: [N, 32, line width] uint8."""
        lines = np.empty((len(pixels), LINE_HEIGHT, self.line_width), np.uint8)
        for rows in _chunks(len(pixels)):
            for line, strength in zip(lines[rows], ink_strength(pixels[rows], self.ground), strict=True):
                cv2.resize(strength, (self.line_width, LINE_HEIGHT), line, interpolation=cv2.INTER_AREA)
        return level_text(lines) if level else lines

    def _first_centres(self, lines: NDArray[np.uint8], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Centres of the characters from `cut_columns`: [N, M], -1 beyond a line's length. Sets the pitch."""
        inked = np.asarray((lines > 127).any(axis=1))
        extent = self.line_width - inked.argmax(axis=1) - inked[:, ::-1].argmax(axis=1)
        self.pitch = float(np.median(extent / lengths))
        centres = np.full((len(lines), self.spec.max_length), -1, np.int64)
        for _ in range(3):
            for length in np.unique(lengths).tolist():
                rows = lengths == length
                cuts = cut_columns(lines[rows], length, self.pitch)
                centres[rows, :length] = (cuts[:, 1:] + cuts[:, :-1]) // 2
            self.pitch = _usual_gap(centres, self.pitch)
        return centres

    def _learn(
        self, lines: NDArray[np.uint8], classes: NDArray[np.int64], centres: NDArray[np.int64], rounds: int
    ) -> None:
        """Alternately fit the scorer to the centres and find the centres of the labels' characters with it."""
        features = cell_features(lines)
        for remaining in range(rounds, -1, -1):
            self.weights = fit_scorer(features, centres, classes, len(self.spec.alphabet), self.pitch)
            if remaining:
                centres = centres.copy()
                for rows in _chunks(len(lines)):
                    centres[rows] = self._align(column_scores(features[rows], self.weights), classes[rows])
                self.pitch = _usual_gap(centres, self.pitch)
        self.starts = start_scores(centres, self.line_width)
        sample = slice(_CHUNK)
        scores = any_character(column_scores(features[sample], self.weights))
        image, index = np.nonzero(centres[sample] >= 0)
        self.threshold = float(np.median(scores[image, centres[image, index]])) / 2

    def _share_read(self, lines: NDArray[np.uint8], classes: NDArray[np.int64]) -> float:
        """The share of characters whose class has the highest score at the centre that was found without labels."""
        right = 0
        for rows in _chunks(len(lines)):
            scores = column_scores(cell_features(lines[rows]), self.weights)
            centres = self._find(scores)
            read = np.take_along_axis(scores.argmax(axis=2), centres.clip(0), axis=1)
            right += ((read == classes[rows]) & (centres >= 0)).sum()
        return float(right / (classes >= 0).sum())

    def _find(self, scores: NDArray[np.float32]) -> NDArray[np.int64]:
        """Centres of unknown characters: scores [N, W, K] to [N, M], -1 beyond a line's length."""
        characters = any_character(scores)
        chosen = np.full((len(scores), self.spec.max_length), -1, np.int64)
        best = np.full(len(scores), -np.inf)
        for length in range(self.spec.min_length, self.spec.max_length + 1):
            centres, sums = best_centres([characters] * length, self.pitch, self.starts)
            sums = sums - length * self.threshold
            better = sums > best
            chosen[better, :length] = centres[better]
            best = np.maximum(best, sums)
        return chosen

    def _align(self, scores: NDArray[np.float32], classes: NDArray[np.int64]) -> NDArray[np.int64]:
        """Centres of the characters `classes` [N, M], -1 beyond a line's length: scores [N, W, K] to [N, M]."""
        aligned = np.full(classes.shape, -1, np.int64)
        lengths = (classes >= 0).sum(axis=1)
        for length in np.unique(lengths).tolist():
            rows = np.nonzero(lengths == length)[0]
            of_characters = [this_character(scores[rows], classes[rows, index]) for index in range(length)]
            aligned[rows, :length] = best_centres(of_characters, self.pitch)[0]
        return aligned

    def _even(self, centres: NDArray[np.int64]) -> NDArray[np.int64]:
        """Evenly spaced centres, as many as each row of `centres` has."""
        lengths: NDArray[np.int64] = np.maximum((centres >= 0).sum(axis=1, keepdims=True), 1)
        return ((np.arange(centres.shape[1]) + 0.5) * self.line_width / lengths).astype(np.int64)


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK))


def _classes(alphabet: Alphabet, labels: Labels, width: int) -> NDArray[np.int64]:
    classes = np.full((len(labels), width), -1, np.int64)
    for row, label in zip(classes, labels, strict=True):
        row[: len(label)] = alphabet.encode(label)
    return classes


def _usual_gap(centres: NDArray[np.int64], otherwise: float) -> float:
    """The median distance between neighbouring centres; `otherwise` if no line has two."""
    gaps = np.diff(centres, axis=1)[centres[:, 1:] >= 0]
    return float(np.median(gaps)) if len(gaps) else otherwise
