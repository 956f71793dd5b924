"""normalize D: data/raw/D.parquet -> data/shards/D/, data/rejects/D.csv and metrics/data/D.json."""

from pathlib import Path

from captchabench.config import load_params
from captchabench.data.normalize import normalize
from captchabench.datasets import DATASETS
from captchabench.files import write_json
from stages import run


def main(name: str) -> None:
    dataset = DATASETS[name]
    params = load_params()
    figures = normalize(
        dataset,
        Path(f"data/raw/{name}.parquet"),
        params.normalize,
        params.folds.count,
        Path(f"data/shards/{name}"),
        Path(f"data/rejects/{name}.csv"),
    )
    write_json(Path(f"metrics/data/{name}.json"), figures)
    rejected = "".join(f", {number:,} {reason}" for reason, number in sorted(figures["rejected"].items()))
    print(f"{name}: {figures['kept']:,} of {figures['images_read']:,} images kept{rejected}")


if __name__ == "__main__":
    run(main)
