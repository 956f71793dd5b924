"""The images that the page shows: which ones, and each as text that a page can hold."""

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

# Of each kind: what a person looks at before scrolling on.
SHOWN = 6
# Labels that may be wrong are listed in full in metrics/suspects.csv.
SUSPECTS_SHOWN = 10
WORST, SUREST = "worst", "surest"
# What OpenCV takes for WebP without loss.
_LOSSLESS = 101


@dataclass(frozen=True)
class Misreading:
    """One image read wrong. kind: WORST (most edits) or SUREST (most confident). dataset: of the image.

    class_names: of a grid, by the symbol that stands for each.
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
    """At most SHOWN of each kind for every reader of every dataset, from the predictions in `folder`.

    The most edits come first, then the highest confidence; of the surest the other way round. A tie goes to
    the lower sample_id, so that each run shows the same. Raises InputError if a cell's predictions are
    missing or damaged.
    """
    parts = []
    classes = {}
    for cell in expected_cells(matrix):
        dataset = cell.dataset
        info, found = read_predictions(folder / f"{cell}.parquet")
        classes[dataset] = dict(zip(info.alphabet, info.class_names, strict=False))
        read = pl.DataFrame(pl.from_arrow(found)).filter(pl.col("label") != pl.col("prediction"))
        apart = pl.when(pl.col("dataset") == dataset).then("dataset").otherwise(dataset + "/" + pl.col("dataset"))
        parts.append(read.select("sample_id", "label", "prediction", "confidence", "model", apart.alias("dataset")))
    wrong = readers(pl.concat(parts))
    edits = [
        (wrong_tiles if classes.get(read) else editdistance.eval)(label, prediction)
        for read, label, prediction in wrong.select("read", "label", "prediction").iter_rows()
    ]
    wrong = wrong.with_columns(pl.Series("edits", edits, pl.Int64))
    result = []
    for (dataset, reader), mine in wrong.group_by("read", "reader", maintain_order=True):
        for kind, order in ((WORST, ("edits", "confidence")), (SUREST, ("confidence", "edits"))):
            best = mine.sort(*order, "sample_id", descending=[True, True, False]).head(SHOWN)
            for row in best.select("sample_id", "label", "prediction", "confidence", "edits").iter_rows(named=True):
                result.append(
                    Misreading(str(dataset), str(reader), kind, **row, class_names=classes.get(str(dataset), {}))
                )
    return result


def of_suspects(suspects: pl.DataFrame) -> list[tuple[str, str]]:
    """The images of the suspected labels that are shown: the first SUSPECTS_SHOWN of each dataset."""
    first = suspects.group_by("dataset", maintain_order=True).head(SUSPECTS_SHOWN)
    return list(first.select("dataset", "sample_id").iter_rows())


def pictures(shards: Path, wanted: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The images `wanted`, as (dataset, sample_id), from the folders in `shards`: sample_id -> data URI.

    They are as a model sees them: grey, of one size. Raises InputError if shards are missing or damaged.
    """
    of_dataset: Mapping[str, set[str]] = defaultdict(set)
    for dataset, sample_id in wanted:
        of_dataset[dataset].add(sample_id)
    found = {}
    for dataset, ids in sorted(of_dataset.items()):
        for path in shard_files(shards / dataset):
            for batch, pixels in read_batches(path):
                for row, sample_id in enumerate(batch["sample_id"].to_pylist()):
                    if sample_id in ids:
                        found[sample_id] = _uri(pixels[row])
    return dict(sorted(found.items()))


def _uri(image: NDArray[np.uint8]) -> str:
    done, encoded = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, _LOSSLESS])
    assert done, "OpenCV writes WebP"
    return "data:image/webp;base64," + b64encode(encoded.tobytes()).decode("ascii")
