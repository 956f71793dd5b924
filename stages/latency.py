"""latency: the time that every trained model takes for a single image. Nothing else should run meanwhile."""

from pathlib import Path

from captchabench.cells.cell import expected_cells
from captchabench.cells.split import held_out, read_cell_samples
from captchabench.config import load_params
from captchabench.models import load_recogniser
from captchabench.storage.files import replacing_folder, write_json
from captchabench.studies.footprint import latency_seconds
from stages import run

_TIMED_IMAGES = 50


def main() -> None:
    """Write the latency of each cell's model, and the machine that it was measured on."""
    params = load_params()
    with replacing_folder(Path("data/latency")) as folder:
        for cell in expected_cells(params.matrix):
            recogniser = load_recogniser(cell.weights)
            images = held_out(read_cell_samples(cell, params), cell.fold).pixels[:_TIMED_IMAGES]
            latency = latency_seconds(recogniser, images)
            write_json(folder / f"{cell}.json", {"latency_ms": round(1000 * latency, 4), **recogniser.machine()})
            print(f"{cell}: {1000 * latency:.2f} ms for one image")


if __name__ == "__main__":
    run(main)
