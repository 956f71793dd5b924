"""score: all predictions -> metrics/cells/D-M-F.json, the sums that every metric is computed from."""

from pathlib import Path

from captchabench.cells.cell import expected_cells
from captchabench.config import load_params
from captchabench.errors import InputError
from captchabench.scoring.cells import score_predictions, write_cell
from captchabench.scoring.metrics import char_accuracy, exact
from captchabench.storage.files import replacing_folder
from stages import run


def main() -> None:
    """Write one file per cell of the matrix; files of earlier cells are removed."""
    matrix = load_params().matrix
    with replacing_folder(Path("metrics/cells")) as folder:
        for cell in expected_cells(matrix):
            scored = score_predictions(cell.predictions)
            if scored.cell != cell:
                raise InputError(f"{cell.predictions}: holds {scored.cell}; run {cell.command('predict')}")
            write_cell(folder / f"{cell}.json", scored)
            counts = scored.parts[scored.dataset].counts
            images = f"{exact(counts):.2%} of {counts.n:,} images exact"
            print(f"{cell}: {images}, {char_accuracy(counts):.2%} of characters")


if __name__ == "__main__":
    run(main)
