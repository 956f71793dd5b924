"""probes: what every cell's probe read -> metrics/transfer.csv, robustness.csv and cost.csv, reports/cost.csv."""

from pathlib import Path

from captchabench.config import load_params
from captchabench.evaluation.cost import counted_cost, measured_cost, read_latency
from captchabench.evaluation.leaderboard import read_cells, read_timing
from captchabench.evaluation.probes import read_probes
from captchabench.evaluation.robustness import robustness
from captchabench.evaluation.transfer import transfer
from captchabench.files import write_text
from captchabench.naming import cell_name
from stages import run


def main() -> None:
    cells = read_cells(Path("metrics/cells"), load_params().grid)
    places = [(cell.dataset, cell.model, cell.fold) for cell in cells]
    probes = [read_probes(Path("data/probes") / f"{cell_name(*place)}.parquet") for place in places]
    timings = {place: read_timing(Path("data/timings"), *place) for place in places}
    latencies = {place: read_latency(Path("data/latency"), *place) for place in places}
    transfers, drops = transfer(probes, cells), robustness(probes)
    tables = {
        "metrics/transfer.csv": transfers,
        "metrics/robustness.csv": drops,
        "metrics/cost.csv": counted_cost([info for info, _ in probes]),
        # Apart from the metrics, which are the same in every run.
        "reports/cost.csv": measured_cost(timings, latencies),
    }
    for path, table in tables.items():
        write_text(Path(path), table.write_csv(float_precision=6))
    print(f"probes: {len(cells)} cells, {transfers.height} rows of transfer, {drops.height} of robustness")


if __name__ == "__main__":
    run(main)
