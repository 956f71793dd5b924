"""The probes contract: what a trained model read besides its own held-out images, one row an image read.

Columns: probe (`transfer` for another dataset's held-out images as they are, `clean` for some of the model's own, or
the name of a corruption of these), strength (int8, 0 for unchanged images), dataset (of the image), sample_id, label,
prediction. The schema metadata say what the model costs. Kept as readings, so that a new way to count reads nothing
anew.
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
    """The cell that was probed, and what its model costs.

    flops: floating-point operations to read one image, None where they are not counted. bytes_on_disk: of the model's
    folder.
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
    """What a model made of `samples` (N texts) under the probe called `name`, at a `strength`."""

    name: str
    strength: int
    samples: Samples
    texts: list[str]


def write_probes(path: Path, info: ProbeInfo, probes: Sequence[Probe]) -> None:
    """Write a cell's probes, one after the other, whole or not at all."""
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
    """One cell's probes. Raises InputError if the file is missing, damaged or not ours."""
    return read_described(path, SCHEMA, ProbeInfo, "probes", "probe")
