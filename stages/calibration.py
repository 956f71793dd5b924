"""calibration: all predictions -> metrics/calibration.csv and risk_coverage.csv, how reliable confidences are."""

from pathlib import Path

from captchabench.cells.cell import expected_cells
from captchabench.config import load_params
from captchabench.storage.files import write_text
from captchabench.studies.confidence import calibration_table, read_confidences, risk_table
from stages import run


def main() -> None:
    matrix = load_params().matrix
    rows = read_confidences(Path("data/predictions"), expected_cells(matrix))
    metrics = Path("metrics")
    write_text(metrics / "calibration.csv", calibration_table(rows).write_csv())
    write_text(metrics / "risk_coverage.csv", risk_table(rows).write_csv())
    print(f"calibration: {len(rows)} rows of the leaderboard in metrics/calibration.csv and risk_coverage.csv")


if __name__ == "__main__":
    run(main)
