"""The format of predictions: one row per held-out image.

Columns: sample_id, label, prediction, confidence (float32, probability of the whole text), fold (int8),
model, dataset (of the image: one of the members for `union`), ctc_loss (float32 nats, null for models without one).
No image is left out: all scores are computed from these rows.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from captchabench.cells.cell import Cell, stage_of
from captchabench.errors import InputError
from captchabench.samples.shards import METADATA_KEY, Samples, ShardInfo, unsealed_metadata
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
    """The description of a cell, in the schema metadata of its predictions.

    parameters: the number of learned numbers. class_names: of grids, the class that each symbol of `alphabet` stands
    for, in the same order; empty for texts. pretraining, precision: see models.base.Provenance.
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
        # Read from JSON, it is a list.
        object.__setattr__(self, "class_names", tuple(self.class_names))

    @classmethod
    def of(
        cls, shards: ShardInfo, model: str, fold: int, parameters: int, *, pretraining: str = "", precision: str = ""
    ) -> Self:
        """The description of what a model reads of samples of `shards`."""
        return cls(
            dataset=shards.dataset,
            source=shards.source,
            version=shards.version,
            model=model,
            fold=fold,
            alphabet=shards.alphabet,
            parameters=parameters,
            class_names=shards.class_names,
            pretraining=pretraining,
            precision=precision,
        )

    @property
    def cell(self) -> Cell:
        """The cell whose predictions these are."""
        return Cell(self.dataset, self.model, self.fold)


def write_predictions(
    path: Path, info: PredictionInfo, samples: Samples, reading: "Reading", losses: NDArray[np.float32] | None
) -> None:
    """Write what a model read of N `samples`, sorted by sample_id, completely or not at all.

    losses: [N] CTC losses in nats, None for a model without one.
    """
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
    """One cell's predictions. Raises InputError if the file is missing, damaged or of another format."""
    return read_described(path, SCHEMA, PredictionInfo, "predictions", stage_of("predict", path.stem))


def write_described(path: Path, table: pa.Table, info: Any) -> None:
    """Write `table` as Parquet, completely or not at all, with the dataclass `info` in the schema metadata."""
    described = unsealed_metadata(json.dumps(asdict(info), sort_keys=True))
    with replacing_file(path) as temporary:
        pq.write_table(table.replace_schema_metadata(described), temporary, compression="zstd")
        seal(temporary)


def read_described(path: Path, schema: pa.Schema, info: type[T], what: str, stage: str) -> tuple[T, pa.Table]:
    """The description and the table that `write_described` wrote.

    info: the class of the description. what: the name of the contents, for messages. Raises InputError that names the
    `stage` to run if the file is missing, damaged or of another `schema`.
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
