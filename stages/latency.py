"""latency: how long every trained model takes for one image by itself. Nothing else should run meanwhile."""

from pathlib import Path

from captchabench.config import load_params
from captchabench.evaluation.footprint import latency_seconds
from captchabench.files import replacing_folder, write_json
from captchabench.models import load_recogniser
from captchabench.naming import expected_cells
from captchabench.training.split import held_out
from stages import run
from stages.cell import Cell

_TIMED_IMAGES = 50


def main() -> None:
    """Write the latency of each cell's model, with the machine it was measured on."""
    params = load_params()
    with replacing_folder(Path("data/latency")) as folder:
        for key in expected_cells(params.grid):
            cell = Cell(*key)
            recogniser = load_recogniser(cell.weights)
            images = held_out(cell.samples(params), cell.fold).pixels[:_TIMED_IMAGES]
            latency = latency_seconds(recogniser, images)
            write_json(folder / f"{cell}.json", {"latency_ms": round(1000 * latency, 4), **recogniser.machine()})
            print(f"{cell}: {1000 * latency:.2f} ms for one image")


if __name__ == "__main__":
    run(main)
