"""probes: what every cell's probe read -> metrics/transfer.csv, robustness.csv and cost.csv, reports/cost.csv."""

from pathlib import Path

from captchabench.config import load_params
from captchabench.predictions.probes import read_probes
from captchabench.scoring.leaderboard import read_cells, read_timing
from captchabench.storage.files import write_text
from captchabench.studies.cost import counted_cost, measured_cost, read_latency
from captchabench.studies.robustness import robustness
from captchabench.studies.transfer import transfer
from stages import run


def main() -> None:
    matrix = load_params().matrix
    cells = read_cells(Path("metrics/cells"), matrix)
    probes = [read_probes(Path("data/probes") / f"{scored.cell}.parquet") for scored in cells]
    timings = {scored.cell: read_timing(Path("data/timings"), scored.cell) for scored in cells}
    latencies = {scored.cell: read_latency(Path("data/latency"), scored.cell) for scored in cells}
    transfers, drops = transfer(probes, cells), robustness(probes)
    tables = {
        "metrics/transfer.csv": transfers,
        "metrics/robustness.csv": drops,
        "metrics/cost.csv": counted_cost([info for info, _ in probes]),
        # Not among the metrics, which are the same in every run.
        "reports/cost.csv": measured_cost(timings, latencies),
    }
    for path, table in tables.items():
        write_text(Path(path), table.write_csv(float_precision=6))
    print(f"probes: {len(cells)} cells, {transfers.height} rows of transfer, {drops.height} of robustness")


if __name__ == "__main__":
    run(main)
