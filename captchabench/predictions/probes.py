"""The format of probes: what a trained model read besides its own held-out fold, one row per image and probe.

Columns: probe (`transfer` for another dataset's held-out images, `clean` for a sample of the model's own, or the name
of a corruption of that sample), strength (int8, 0 for unchanged images), dataset (of the image), sample_id, label,
prediction. The schema metadata contain the cost of the model. Predictions are kept instead of counts, so that a new
metric does not need the models again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from captchabench.predictions.held_out import read_described, write_described
from captchabench.samples.shards import Samples

TRANSFER, CLEAN = "transfer", "clean"
SCHEMA = pa.schema(
    [
        ("probe", pa.string()),
        ("strength", pa.int8()),
        ("dataset", pa.string()),
        ("sample_id", pa.string()),
        ("label", pa.string()),
        ("prediction", pa.string()),
    ]
)


@dataclass(frozen=True)
class ProbeInfo:
    """The cell that was probed, and the cost of its model.

    parameters: the number of learned numbers. flops: floating-point operations per image, None for a model without a
    network. bytes_on_disk: the size of the model's folder.
    """

    dataset: str
    source: str
    model: str
    fold: int
    parameters: int
    flops: int | None
    bytes_on_disk: int


@dataclass(frozen=True)
class Probe:
    """What a model read of N `samples` under the probe called `name` at `strength`: N `texts`."""

    name: str
    strength: int
    samples: Samples
    texts: list[str]


def write_probes(path: Path, info: ProbeInfo, probes: Sequence[Probe]) -> None:
    """Write a cell's probes in the given order, completely or not at all."""
    tables = [SCHEMA.empty_table()]
    for probe in probes:
        n = len(probe.samples)
        columns = {
            "probe": [probe.name] * n,
            "strength": np.full(n, probe.strength, np.int8),
            "dataset": probe.samples.datasets,
            "sample_id": probe.samples.sample_ids,
            "label": probe.samples.labels,
            "prediction": probe.texts,
        }
        tables.append(pa.table(columns, schema=SCHEMA))
    write_described(path, pa.concat_tables(tables), info)


def read_probes(path: Path) -> tuple[ProbeInfo, pa.Table]:
    """One cell's probes. Raises InputError if the file is missing, damaged or of another format."""
    return read_described(path, SCHEMA, ProbeInfo, "probes", "probe")
