"""train D M F: train model M on all folds of dataset D but F.

If it is killed, the next run continues from the last checkpoint. On several GPUs of one machine:
`torchrun --nproc-per-node N -m stages.train D M F`.
"""

import csv
import io
import os
from dataclasses import asdict, fields

from captchabench.cells.cell import Cell
from captchabench.cells.split import balanced, held_out, read_cell_samples, split_rest
from captchabench.config import load_params
from captchabench.models import build_recogniser
from captchabench.storage.files import replacing_folder, write_json, write_text
from captchabench.training.checkpoints import Checkpoints, CurvePoint
from stages import run
from stages.scratch import checksum_of, scratch_folder


def main(*arguments: str) -> None:
    """Write the model, its learning curve and its timing."""
    params = load_params()
    cell = Cell.from_arguments(arguments, params)
    samples = read_cell_samples(cell, params)
    held_out(samples, cell.fold)
    seed = params.training.seed + cell.fold
    once, validation = split_rest(samples, cell.fold, params.training.validation_share, seed)
    train = balanced(once, params.training.balance)

    # torchrun numbers its processes. Only the first one prints and writes.
    is_first = os.environ.get("RANK", "0") == "0"
    recogniser = build_recogniser(cell.model, samples.info.spec, params.of_model(cell.model, cell.dataset))
    inputs = {"seed": seed, "shards": checksum_of(train, validation), "parameters": asdict(recogniser.config)}
    checkpoints = Checkpoints(scratch_folder(cell, inputs | recogniser.machine(), report=is_first))
    curve = recogniser.fit(train, validation, seed=seed, progress=is_first, checkpoints=checkpoints)
    seconds = checkpoints.seconds
    if not is_first:
        return

    with replacing_folder(cell.weights) as folder:
        recogniser.save(folder, samples.info, cell.fold)
    write_text(cell.curve, _as_csv(curve))
    write_json(cell.timing("train"), {"train_seconds": round(seconds, 3), **recogniser.machine()})
    best = max(point.validation_exact for point in curve)
    print(f"{cell}: {len(once)} images, {seconds:.1f} s, {best:.1%} of {len(validation)} validation images exact")


def _as_csv(curve: list[CurvePoint]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [f.name for f in fields(CurvePoint)], lineterminator="\n")
    writer.writeheader()
    for point in curve:
        row = asdict(point)
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    return text.getvalue()


if __name__ == "__main__":
    run(main)
