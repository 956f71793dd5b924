"""The predictions contract: one row a held-out image, never thrown away.

Columns: sample_id, label, prediction, confidence (float32, probability of the whole word), fold (int8),
model, dataset (of the image: differs within `union`), ctc_loss (float32 nats, null for models without one).
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from captchabench.cells.cell import Cell, stage_of
from captchabench.errors import InputError
from captchabench.samples.shards import METADATA_KEY, Samples, unsealed_metadata
from captchabench.storage.checksum import read_sealed, seal
from captchabench.storage.files import replacing_file

if TYPE_CHECKING:
    from captchabench.networks.readings import Reading

T = TypeVar("T")

SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("label", pa.string()),
        ("prediction", pa.string()),
        ("confidence", pa.float32()),
        ("fold", pa.int8()),
        ("model", pa.string()),
        ("dataset", pa.string()),
        ("ctc_loss", pa.float32()),
    ]
)


@dataclass(frozen=True)
class PredictionInfo:
    """What a predictions file says about its cell, in its schema metadata.

    `class_names`: what the symbols of `alphabet` stand for, in its order, where images are grids; else empty.
    `pretraining` and `precision`: see models.base.Provenance.
    """

    dataset: str
    source: str
    version: int
    model: str
    fold: int
    alphabet: str
    parameters: int
    class_names: tuple[str, ...] = ()
    pretraining: str = ""
    precision: str = ""

    def __post_init__(self) -> None:
        # JSON, where this is kept, has lists alone.
        object.__setattr__(self, "class_names", tuple(self.class_names))

    @property
    def cell(self) -> Cell:
        """The cell whose predictions these are."""
        return Cell(self.dataset, self.model, self.fold)


def write_predictions(
    path: Path, info: PredictionInfo, samples: Samples, reading: "Reading", losses: NDArray[np.float32] | None
) -> None:
    """Write what a model read of `samples`, sorted by sample_id, whole or not at all."""
    n = len(samples)
    table = pa.table(
        {
            "sample_id": samples.sample_ids,
            "label": samples.labels,
            "prediction": reading.texts,
            "confidence": np.asarray(reading.confidences, np.float32),
            "fold": samples.folds,
            "model": [info.model] * n,
            "dataset": samples.datasets,
            "ctc_loss": pa.nulls(n, pa.float32()) if losses is None else np.asarray(losses, np.float32),
        },
        schema=SCHEMA,
    )
    write_described(path, table.sort_by("sample_id"), info)


def read_predictions(path: Path) -> tuple[PredictionInfo, pa.Table]:
    """One cell's predictions. Raises InputError if the file is missing, damaged or not ours."""
    return read_described(path, SCHEMA, PredictionInfo, "predictions", stage_of("predict", path.stem))


def write_described(path: Path, table: pa.Table, info: Any) -> None:
    """Write what models read as Parquet, whole or not at all, the dataclass `info` in the schema metadata."""
    described = unsealed_metadata(json.dumps(asdict(info), sort_keys=True))
    with replacing_file(path) as temporary:
        pq.write_table(table.replace_schema_metadata(described), temporary, compression="zstd")
        seal(temporary)


def read_described(path: Path, schema: pa.Schema, info: type[T], what: str, stage: str) -> tuple[T, pa.Table]:
    """What `write_described` wrote: an `info` and the table.

    Raises InputError that names the `stage` to run if the file is missing, damaged or not of this `schema`.
    """
    again = f"run `dvc repro {stage}`"
    try:
        # Not `read_table`, which imports pyarrow's datasets, and pandas with them.
        table = pq.ParquetFile(pa.BufferReader(read_sealed(path, f"run `dvc repro -f -s {stage}`"))).read()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: cannot be read ({error}); {again}") from None
    described = (table.schema.metadata or {}).get(METADATA_KEY)
    if described is None or not table.schema.equals(schema):
        raise InputError(f"{path}: is not one of our {what}; {again}")
    return info(**json.loads(described)), table
