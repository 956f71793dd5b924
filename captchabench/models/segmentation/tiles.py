"""Segmentation of grids into tiles of equal size, and the choice of the segmenter."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from captchabench.models.segmentation.boxes import equal_boxes
from captchabench.models.segmentation.crops import HEIGHT
from captchabench.models.segmentation.lines import Segmenter, Segments, equal_cells
from captchabench.networks.readings import Step, Steps
from captchabench.samples.shards import Labels, TextSpec


class TileCutter:
    """The segmenter of grids: equal cells, row by row, each scaled to a square crop.

    Crops have the grey levels of the image, since a tile has no ink. Spans are columns, as in `Segments`; the row of a
    tile follows from its index.
    """

    parameter_count = 0
    crop_width = HEIGHT

    def __init__(self, spec: TextSpec) -> None:
        self.spec = spec

    def fit(self, pixels: NDArray[np.uint8], labels: Labels) -> None:
        """See Segmenter.fit. There is nothing to learn."""

    def segment(self, pixels: NDArray[np.uint8], labels: Labels | None = None) -> Segments:
        """See Segmenter.segment. The labels are ignored."""
        spec, count = self.spec, len(pixels)
        across = equal_cells(1, spec.columns, spec.width)[0]
        down = equal_cells(1, spec.rows, spec.height)[0]
        crops = np.empty((count, spec.max_length, HEIGHT, self.crop_width), np.uint8)
        for index in range(spec.max_length):
            row, column = divmod(index, spec.columns)
            cells = pixels[:, down[row] : down[row + 1], across[column] : across[column + 1]]
            for cell, crop in zip(cells, crops[:, index], strict=True):
                cv2.resize(cell, (self.crop_width, HEIGHT), crop, interpolation=cv2.INTER_AREA)
        edges = np.stack([across[:-1], across[1:]], axis=1).astype(np.float32)
        spans = np.tile(edges, (count, spec.rows, 1))
        return Segments(np.full(count, spec.max_length, np.int64), spans, crops)

    def locate(self, pixels: NDArray[np.uint8], readings: Sequence[Steps]) -> list[Steps]:
        """See Segmenter.locate."""
        boxes = equal_boxes(self.spec, self.spec.max_length)
        located = []
        for line, crops in zip(readings, self.segment(pixels).crops, strict=True):
            steps = (
                Step(*box, step.symbol, step.probability, crop)
                for step, box, crop in zip(line.steps, boxes, crops, strict=True)
            )
            located.append(Steps("cells", tuple(steps)))
        return located

    def save(self, path: Path) -> None:
        """See Segmenter.save. There is nothing to save."""

    def load(self, path: Path) -> None:
        """See Segmenter.load."""


def segmenter_for(spec: TextSpec) -> Segmenter | TileCutter:
    """An unfitted segmenter for images of `spec`: of a line or of a grid."""
    return Segmenter(spec) if spec.rows == 1 else TileCutter(spec)
