"""The images that the page shows: the choice of misread images, and each image as a data URI."""

from base64 import b64encode
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import editdistance
import numpy as np
import polars as pl
from numpy.typing import NDArray

from captchabench.cells.cell import expected_cells
from captchabench.config import MatrixParams
from captchabench.predictions.held_out import read_predictions
from captchabench.report.tables import readers
from captchabench.samples.shards import read_batches, shard_files
from captchabench.scoring.tiles import wrong_tiles

# Misread images of each kind, for each dataset and reader.
SHOWN = 6
# Suspects of each dataset. metrics/suspects.csv has the others.
SUSPECTS_SHOWN = 10
WORST, SUREST = "worst", "surest"
# With a quality above 100, OpenCV writes lossless WebP.
_LOSSLESS = 101


@dataclass(frozen=True)
class Misreading:
    """One misread image. kind: WORST (most edits) or SUREST (most confident). dataset: that of the image.

    class_names: for a grid, symbol of the label -> name of the class.
    """

    dataset: str
    reader: str
    kind: str
    sample_id: str
    label: str
    prediction: str
    confidence: float
    edits: int
    class_names: Mapping[str, str] = field(default_factory=dict)


def misreadings(folder: Path, matrix: MatrixParams) -> list[Misreading]:
    """At most SHOWN misread images of each kind for every dataset and reader, from the predictions in `folder`.

    WORST is sorted by edits, then by confidence; SUREST by confidence, then by edits. Ties go to the lower
    sample_id, so that the choice is reproducible. Raises InputError if a cell's predictions are missing or
    damaged.
    """
    parts = []
    classes = {}
    for cell in expected_cells(matrix):
        dataset = cell.dataset
        info, predictions = read_predictions(folder / f"{cell}.parquet")
        classes[dataset] = dict(zip(info.alphabet, info.class_names, strict=False))
        misread = pl.DataFrame(pl.from_arrow(predictions)).filter(pl.col("label") != pl.col("prediction"))
        # In the form of the leaderboard: "union/vtu" for an image of vtu that a model of union read.
        named = pl.when(pl.col("dataset") == dataset).then("dataset").otherwise(dataset + "/" + pl.col("dataset"))
        parts.append(misread.select("sample_id", "label", "prediction", "confidence", "model", named.alias("dataset")))
    wrong = readers(pl.concat(parts))
    edits = [
        (wrong_tiles if classes.get(read) else editdistance.eval)(label, prediction)
        for read, label, prediction in wrong.select("read", "label", "prediction").iter_rows()
    ]
    wrong = wrong.with_columns(pl.Series("edits", edits, pl.Int64))
    result = []
    for (dataset, reader), rows in wrong.group_by("read", "reader", maintain_order=True):
        for kind, order in ((WORST, ("edits", "confidence")), (SUREST, ("confidence", "edits"))):
            first = rows.sort(*order, "sample_id", descending=[True, True, False]).head(SHOWN)
            for row in first.select("sample_id", "label", "prediction", "confidence", "edits").iter_rows(named=True):
                result.append(
                    Misreading(str(dataset), str(reader), kind, **row, class_names=classes.get(str(dataset), {}))
                )
    return result


def of_suspects(suspects: pl.DataFrame) -> list[tuple[str, str]]:
    """The images of the suspects that the page shows, as (dataset, sample_id): SUSPECTS_SHOWN of each dataset."""
    first = suspects.group_by("dataset", maintain_order=True).head(SUSPECTS_SHOWN)
    return list(first.select("dataset", "sample_id").iter_rows())


def pictures(shards: Path, wanted: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The images `wanted`, as (dataset, sample_id), from the folders in `shards`: sample_id -> data URI.

    They are normalised, as the models see them. Raises InputError if shards are missing or damaged.
    """
    ids_of: Mapping[str, set[str]] = defaultdict(set)
    for dataset, sample_id in wanted:
        ids_of[dataset].add(sample_id)
    uris = {}
    for dataset, ids in sorted(ids_of.items()):
        for path in shard_files(shards / dataset):
            for batch, pixels in read_batches(path):
                for row, sample_id in enumerate(batch["sample_id"].to_pylist()):
                    if sample_id in ids:
                        uris[sample_id] = _uri(pixels[row])
    return dict(sorted(uris.items()))


def _uri(image: NDArray[np.uint8]) -> str:
    done, encoded = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, _LOSSLESS])
    assert done, "OpenCV writes WebP"
    return "data:image/webp;base64," + b64encode(encoded.tobytes()).decode("ascii")
