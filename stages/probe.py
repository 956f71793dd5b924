"""probe: every trained model reads other datasets and corrupted images of its own -> data/probes/D-M-F.parquet.

One process for all cells: starting torch for each cell would take longer than the reading.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from captchabench.cells.cell import SHARDS, Cell, expected_cells
from captchabench.cells.split import held_out, read_cell_samples
from captchabench.config import Params, load_params
from captchabench.datasets import UNION
from captchabench.models import load_recogniser
from captchabench.models.base import Recogniser
from captchabench.predictions.probes import CLEAN, TRANSFER, Probe, ProbeInfo, write_probes
from captchabench.samples.shards import Samples, read_info, read_samples
from captchabench.storage.files import replacing_folder
from captchabench.studies.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from captchabench.studies.footprint import bytes_on_disk, flops_per_image
from stages import run

# (dataset, fold) -> the held-out samples, which are read once for all models.
Unseen = Callable[[str, int], Samples]


def main() -> None:
    """Write what each model read, one row per image, and its size."""
    params = load_params()
    unseen = cache(lambda dataset, fold: held_out(read_samples(SHARDS / dataset), fold))
    with replacing_folder(Path("data/probes")) as folder:
        for cell in expected_cells(params.matrix):
            _probe(cell, params, unseen, folder)


def _probe(cell: Cell, params: Params, unseen: Unseen, folder: Path) -> None:
    recogniser = load_recogniser(cell.weights)
    all_held_out = (
        held_out(read_cell_samples(cell, params), cell.fold)
        if cell.dataset == UNION
        else unseen(cell.dataset, cell.fold)
    )
    samples = _first(all_held_out, params.probe.images)
    probes = [*_transfer(recogniser, cell, params, unseen), *_corrupted(recogniser, samples)]
    info = ProbeInfo(
        dataset=cell.dataset,
        source=samples.info.source,
        model=cell.model,
        fold=cell.fold,
        parameters=recogniser.parameter_count,
        flops=flops_per_image(recogniser, samples.pixels[0]),
        bytes_on_disk=bytes_on_disk(cell.weights),
    )
    write_probes(folder / f"{cell}.parquet", info, probes)
    print(f"{cell}: {sum(len(probe.samples) for probe in probes):,} images read")


def _first(samples: Samples, images: int) -> Samples:
    """At most `images` samples of each dataset. They are sorted by a hash, so the first are effectively random."""
    rows = [np.flatnonzero(samples.datasets == name)[:images] for name in np.unique(samples.datasets)]
    return samples.where(np.sort(np.concatenate(rows)))


def _transfer(recogniser: Recogniser, cell: Cell, params: Params, unseen: Unseen) -> list[Probe]:
    """What the model reads of each dataset that it was not trained on and whose alphabet is within its own.

    Held-out images only. Empty for a model of grids.
    """
    if recogniser.spec.rows > 1:
        return []
    probes = []
    for name in params.matrix.datasets:
        alphabet = read_info(SHARDS / name).alphabet
        if cell.dataset in (name, UNION) or recogniser.spec.alphabet.foreign(alphabet):
            continue
        other = unseen(name, cell.fold)
        probes.append(Probe(TRANSFER, 0, other, recogniser.predict(other.pixels).texts))
    return probes


def _corrupted(recogniser: Recogniser, samples: Samples) -> list[Probe]:
    """What the model reads of unchanged samples, and of each corruption at each strength."""
    probes = [Probe(CLEAN, 0, samples, recogniser.predict(samples.pixels).texts)]
    for name in CORRUPTIONS:
        for strength in STRENGTHS:
            corrupted = corrupt(samples.pixels, samples.sample_ids, name, strength)
            probes.append(Probe(name, strength, samples, recogniser.predict(corrupted).texts))
    return probes


if __name__ == "__main__":
    run(main)
