"""suspects: all predictions of held-out images -> metrics/suspects.csv, labels for a person to look at."""

from pathlib import Path

from captchabench.config import load_params
from captchabench.data.names import read_names
from captchabench.evaluation.label_errors import suspects
from captchabench.evaluation.predictions import read_predictions
from captchabench.files import write_text
from captchabench.naming import cell_name, expected_cells
from stages import run
from stages.cell import SHARDS


def main() -> None:
    grid = load_params().grid
    places = [Path("data/predictions") / f"{cell_name(*cell)}.parquet" for cell in expected_cells(grid)]
    names = {dataset: read_names(SHARDS / dataset) for dataset in grid.all_datasets}
    found = suspects([read_predictions(place) for place in places], names)
    write_text(Path("metrics/suspects.csv"), found.write_csv(float_precision=6))
    print(f"suspects: {found.height} labels to look at, in metrics/suspects.csv")


if __name__ == "__main__":
    run(main)
