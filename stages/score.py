"""score: all predictions -> metrics/cells/D-M-F.json, the sums that every metric is made of."""

from pathlib import Path

from captchabench.config import load_params
from captchabench.errors import InputError
from captchabench.evaluation.cells import score_predictions, write_cell
from captchabench.evaluation.metrics import char_accuracy, exact
from captchabench.files import replacing_folder
from captchabench.naming import cell_name, expected_cells, repro_command
from stages import run


def main() -> None:
    """Write a file for each cell of the grid, and none for cells that there were before."""
    with replacing_folder(Path("metrics/cells")) as folder:
        for place in expected_cells(load_params().grid):
            cell = cell_name(*place)
            path = Path(f"data/predictions/{cell}.parquet")
            scored = score_predictions(path)
            found = cell_name(scored.dataset, scored.model, scored.fold)
            if found != cell:
                raise InputError(f"{path}: holds {found}; run {repro_command('predict', cell)}")
            write_cell(folder / f"{cell}.json", scored)
            counts = scored.parts[scored.dataset].counts
            right = f"{exact(counts):.2%} of {counts.n:,} images exact"
            print(f"{cell}: {right}, {char_accuracy(counts):.2%} of characters")


if __name__ == "__main__":
    run(main)
