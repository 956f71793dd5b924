"""suspects: all predictions of held-out images -> metrics/suspects.csv, labels for a person to look at."""

from pathlib import Path

from captchabench.cells.cell import SHARDS, expected_cells
from captchabench.config import load_params
from captchabench.predictions.held_out import read_predictions
from captchabench.samples.shards import read_names
from captchabench.storage.files import write_text
from captchabench.studies.label_errors import suspects
from stages import run


def main() -> None:
    matrix = load_params().matrix
    paths = [cell.predictions for cell in expected_cells(matrix)]
    names = {dataset: read_names(SHARDS / dataset) for dataset in matrix.all_datasets}
    table = suspects([read_predictions(path) for path in paths], names)
    write_text(Path("metrics/suspects.csv"), table.write_csv(float_precision=6))
    print(f"suspects: {table.height} labels to look at, in metrics/suspects.csv")


if __name__ == "__main__":
    run(main)
