"""report: metrics/, misread images, results/ and params.yaml -> reports/index.html."""

from pathlib import Path

from captchabench.config import PARAMS, load_params
from captchabench.report.findings import Findings
from captchabench.report.inputs import read_audit, read_cleaning
from captchabench.report.page import page
from captchabench.report.pictures import misreadings, of_suspects, pictures
from captchabench.report.runs import read_published, read_runs
from captchabench.report.sections.base import sections
from captchabench.scoring.leaderboard import read_leaderboard
from captchabench.storage.files import write_text
from captchabench.studies.label_errors import SUSPECTS
from stages import run

METRICS = Path("metrics")


def main() -> None:
    params = load_params()
    tables = {table: table.read() for section in sections() for table in section.tables}
    wrong = misreadings(Path("data/predictions"), params.matrix)
    shown = [*((m.dataset, m.sample_id) for m in wrong), *of_suspects(tables[SUSPECTS])]
    findings = Findings(
        board=read_leaderboard(METRICS / "leaderboard.csv"),
        tables=tables,
        cleaning=read_cleaning(METRICS / "data", params.matrix.all_datasets),
        audit=read_audit(METRICS / "data" / "audit.json", params.matrix.all_datasets),
        misreadings=wrong,
        pictures=pictures(Path("data/shards"), shown),
        params=params,
        params_text=PARAMS.read_text(encoding="utf-8"),
        runs=read_runs(),
        published=read_published(),
    )
    path = Path("reports/index.html")
    write_text(path, page(findings))
    print(f"report: {path}, {path.stat().st_size / 1e6:.1f} MB, open it from disk")


if __name__ == "__main__":
    run(main)
