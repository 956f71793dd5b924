"""report: metrics/ and params.yaml -> reports/index.html."""

from pathlib import Path

from captchabench.config import PARAMS, load_params
from captchabench.evaluation.leaderboard import read_leaderboard
from captchabench.files import write_text
from captchabench.report.inputs import read_cleaning, read_confusions, read_curves
from captchabench.report.page import Findings, page
from stages import run


def main() -> None:
    params = load_params()
    metrics = Path("metrics")
    findings = Findings(
        board=read_leaderboard(metrics / "leaderboard.csv"),
        curves=read_curves(metrics / "curves.csv"),
        confusions=read_confusions(metrics / "confusion.csv"),
        cleaning=read_cleaning(metrics / "data", params.grid.datasets),
        params=params,
        params_text=PARAMS.read_text(encoding="utf-8"),
    )
    place = Path("reports/index.html")
    write_text(place, page(findings))
    print(f"report: {place}, {place.stat().st_size / 1e6:.1f} MB, open it from disk")


if __name__ == "__main__":
    run(main)
