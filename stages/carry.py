"""carry: archives at hand, read by models that were trained on stand-ins -> metrics/carry.csv."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from captchabench.cells.cell import Cell, expected_cells
from captchabench.config import Params, load_params
from captchabench.datasets import DATASETS, UNION
from captchabench.datasets.base import Dataset
from captchabench.models import load_recogniser
from captchabench.normalize.texts import normalize
from captchabench.samples.raw import RawInfo, write_raw
from captchabench.samples.shards import Samples, read_samples
from captchabench.sources.archives import archives_of
from captchabench.sources.opening import open_source
from captchabench.storage.files import write_text
from captchabench.studies.carry import Carried, carry
from stages import run

_IMAGES = 2000  # read of each archive, at most


def main() -> None:
    params = load_params()
    readings = list(_readings(params)) if params.data.source == "standin" else []
    write_text(Path("metrics/carry.csv"), carry(readings).write_csv(float_precision=6))
    read = sorted({reading.samples.info.dataset for reading in readings})
    print(f"carry: read archives of {', '.join(read)}" if read else "carry: no stand-ins, or no archive to read")


def _readings(params: Params) -> Iterator[Carried]:
    """What the models of each dataset, and those of the union, read of its archive, where there is one."""
    cells = expected_cells(params.matrix)
    # Images of the user's own have no stand-ins.
    for name in filter(DATASETS.names().__contains__, params.matrix.datasets):
        dataset = DATASETS[name]
        if archives_of(dataset, Path(params.data.downloads)):
            samples = _archived(dataset, params)
            yield from (_reading(cell, samples) for cell in cells if cell.dataset in (name, UNION))


def _archived(dataset: Dataset, params: Params) -> Samples:
    """Images of the dataset's archive, made ready as those that the models were trained on."""
    source = open_source(dataset, replace(params.data, source="archive"), _IMAGES)
    info = RawInfo(dataset.key, "archive", dataset.version, source.available, source.skipped)
    with tempfile.TemporaryDirectory(prefix="captchabench-") as place:
        raw, shards = Path(place) / "raw.parquet", Path(place) / dataset.key
        write_raw(raw, info, source.entries(), dataset.raw_label)
        normalize(dataset, raw, params.normalize, params.folds.count, shards, Path(place) / "rejects.csv")
        return read_samples(shards)


def _reading(cell: Cell, samples: Samples) -> Carried:
    return Carried(cell, samples, load_recogniser(cell.weights).predict(samples.pixels).texts)


if __name__ == "__main__":
    run(main)
