"""score D M F: predictions -> metrics/cells/D-M-F.json, the sums that every metric is made of."""

from pathlib import Path

from captchabench.config import load_params
from captchabench.errors import InputError
from captchabench.evaluation.cells import score_predictions, write_cell
from captchabench.evaluation.metrics import char_accuracy, exact
from captchabench.naming import cell_name, repro_command
from stages import run
from stages.cell import Cell


def main(*words: str) -> None:
    cell = Cell.parse(words, load_params())
    scored = score_predictions(cell.predictions)
    found = cell_name(scored.dataset, scored.model, scored.fold)
    if found != str(cell):
        raise InputError(f"{cell.predictions}: holds {found}; run {repro_command('predict', str(cell))}")
    write_cell(Path(f"metrics/cells/{cell}.json"), scored)
    counts = scored.parts[cell.dataset].counts
    right = f"{exact(counts):.2%} of {counts.n:,} images exact"
    print(f"{cell}: {right}, {char_accuracy(counts):.2%} of characters")


if __name__ == "__main__":
    run(main)
