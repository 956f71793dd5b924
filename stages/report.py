"""report: metrics/, the images that were misread, and params.yaml -> reports/index.html."""

from pathlib import Path

from captchabench.config import PARAMS, load_params
from captchabench.report.change import change_since_previous, this_revision
from captchabench.report.findings import Findings
from captchabench.report.inputs import read_audit, read_cleaning, read_table
from captchabench.report.page import page
from captchabench.report.pictures import misreadings, of_suspects, pictures
from captchabench.scoring import curves
from captchabench.scoring.leaderboard import CLASSES_SCHEMA, CONFUSION_SCHEMA, read_leaderboard
from captchabench.storage.files import write_text
from captchabench.studies import ambiguity, robustness, transfer
from captchabench.studies.confidence import CALIBRATION_SCHEMA, RISK_SCHEMA
from captchabench.studies.cost import COUNTED, MEASURED
from captchabench.studies.label_errors import SCHEMA as SUSPECTS
from stages import run
from stages.leftovers import remove_leftovers

METRICS = Path("metrics")


def main() -> None:
    params = load_params()
    remove_leftovers(params.grid)
    suspects = read_table(METRICS / "suspects.csv", SUSPECTS, "suspects")
    wrong = misreadings(Path("data/predictions"), params.grid)
    shown = [*((m.dataset, m.sample_id) for m in wrong), *of_suspects(suspects)]
    speed = read_table(Path("reports/cost.csv"), MEASURED, "probes")
    findings = Findings(
        board=read_leaderboard(METRICS / "leaderboard.csv"),
        curves=read_table(METRICS / "curves.csv", curves.SCHEMA, "leaderboard"),
        confusions=read_table(METRICS / "confusion.csv", CONFUSION_SCHEMA, "leaderboard"),
        classes=read_table(METRICS / "classes.csv", CLASSES_SCHEMA, "leaderboard"),
        reliability=read_table(METRICS / "calibration.csv", CALIBRATION_SCHEMA, "calibration"),
        risk=read_table(METRICS / "risk_coverage.csv", RISK_SCHEMA, "calibration"),
        transfer=read_table(METRICS / "transfer.csv", transfer.SCHEMA, "probes"),
        robustness=read_table(METRICS / "robustness.csv", robustness.SCHEMA, "probes"),
        cost=read_table(METRICS / "cost.csv", COUNTED, "probes").join(speed, on=["dataset", "model"], how="left"),
        ambiguity=read_table(METRICS / "ambiguity.csv", ambiguity.SCHEMA, "ambiguity"),
        suspects=suspects,
        cleaning=read_cleaning(METRICS / "data", params.grid.all_datasets),
        audit=read_audit(METRICS / "data" / "audit.json", params.grid.all_datasets),
        misreadings=wrong,
        pictures=pictures(Path("data/shards"), shown),
        change=change_since_previous(),
        revision=this_revision(),
        params=params,
        params_text=PARAMS.read_text(encoding="utf-8"),
    )
    place = Path("reports/index.html")
    write_text(place, page(findings))
    print(f"report: {place}, {place.stat().st_size / 1e6:.1f} MB, open it from disk")


if __name__ == "__main__":
    # The unpaired comparison with the last commit takes statsmodels.
    run(main, pandas=True)
