"""normalize D: data/raw/D.parquet -> data/shards/D/, data/rejects/D.csv and metrics/data/D.json."""

from pathlib import Path

from captchabench.config import load_params
from captchabench.datasets.declared import find_dataset
from captchabench.normalize.texts import normalize
from captchabench.normalize.tiles import normalize_tiles
from captchabench.storage.files import write_json
from stages import run


def main(name: str) -> None:
    params = load_params()
    dataset = find_dataset(name, params)
    source, rejects = Path(f"data/raw/{name}.parquet"), Path(f"data/rejects/{name}.csv")
    shards, folds = Path(f"data/shards/{name}"), params.folds.count
    if dataset.task == "grid":
        figures = normalize_tiles(dataset, source, params.normalize, params.tiles, folds, shards, rejects)
    else:
        figures = normalize(dataset, source, params.normalize, folds, shards, rejects)
    write_json(Path(f"metrics/data/{name}.json"), figures)
    rejected = "".join(f", {number:,} {reason}" for reason, number in sorted(figures["rejected"].items()))
    print(f"{name}: {figures['kept']:,} of {figures['images_read']:,} images kept{rejected}")


if __name__ == "__main__":
    run(main)
