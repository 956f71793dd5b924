"""leaderboard: all cells, timings, curves and risk_coverage.csv -> metrics/leaderboard.csv and .md,
summary/DATASET/MODEL.json, arithmetic.csv, classes.csv, confusion.csv and curves.csv."""

from pathlib import Path

from captchabench.config import load_params
from captchabench.report.markdown import markdown
from captchabench.scoring.arithmetic import arithmetic
from captchabench.scoring.curves import collect_curves
from captchabench.scoring.leaderboard import (
    classes,
    confusions,
    leaderboard,
    read_cells,
    read_copies,
    read_timing,
    summary,
    write_leaderboard,
)
from captchabench.storage.files import replacing_folder, write_json, write_text
from captchabench.studies.ambiguity import AMBIGUITY
from captchabench.studies.confidence import RISK, coverage_at_target
from stages import run
from stages.scratch import clear_scratch


def main() -> None:
    matrix = load_params().matrix
    cells = read_cells(Path("metrics/cells"), matrix)
    metrics = Path("metrics")
    timings = {scored.cell: read_timing(Path("data/timings"), scored.cell) for scored in cells}
    ambiguity = AMBIGUITY.read()
    ceilings = dict(ambiguity.select("dataset", "ceiling_exact").rows())
    copies = read_copies(metrics / "data" / "audit.json")
    board = leaderboard(cells, timings, coverage_at_target(RISK.read()), ceilings, copies)
    curves = collect_curves(metrics / "curves", cells)
    write_leaderboard(metrics / "leaderboard.csv", board)
    write_text(metrics / "leaderboard.md", markdown(board, dict(ambiguity.select("dataset", "basis").rows())))
    # One file per row: `dvc metrics show` prints one line per file.
    with replacing_folder(metrics / "summary") as folder:
        for model, of_model in summary(board).items():
            for dataset, values in of_model.items():
                write_json(folder / dataset / f"{model}.json", values)
    write_text(metrics / "arithmetic.csv", arithmetic(cells, Path("data/timings")).write_csv())
    write_text(metrics / "classes.csv", classes(cells).write_csv(float_precision=6))
    write_text(metrics / "confusion.csv", confusions(cells).write_csv())
    write_text(metrics / "curves.csv", curves.write_csv())
    # All trainings of the matrix are complete: what is left belongs to abandoned ones.
    clear_scratch("*")
    print(f"leaderboard: {len(cells)} cells, {board.height} rows in metrics/leaderboard.csv")


if __name__ == "__main__":
    run(main)
