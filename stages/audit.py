"""audit: all shards -> metrics/data/audit.json; fails if near-duplicates straddle folds or a fold is empty."""

from pathlib import Path

from captchabench.audit import EXAMPLES, audit
from captchabench.config import load_params
from captchabench.errors import InputError
from captchabench.storage.files import write_json
from stages import run

OUTPUT = Path("metrics/data/audit.json")


def main() -> None:
    params = load_params()
    result = audit([Path(f"data/shards/{name}") for name in params.matrix.all_datasets], params.folds.count)
    # Written even if this stage fails: the messages refer to it.
    write_json(OUTPUT, result.figures)
    if result.empty_folds:
        empty = "; ".join(f"{name} fold {', '.join(map(str, folds))}" for name, folds in result.empty_folds.items())
        raise InputError(
            f"folds without images: {empty}; see {OUTPUT}, then run `dvc repro --force normalize`, "
            "and if that does not help, lower folds.count in params.yaml"
        )
    if result.leaks:
        examples = "; ".join(" ~ ".join(group[:EXAMPLES]) for group in result.leaks[:EXAMPLES])
        raise InputError(
            f"{len(result.leaks)} groups of near-duplicates straddle folds: {examples}; see {OUTPUT}, then run "
            "`dvc repro --force normalize`, or remove images that two datasets share from one of them"
        )
    images = sum(dataset["images"] for dataset in result.figures["datasets"].values())
    duplicates = result.figures["duplicates"]
    print(
        f"audit: {images:,} images, {duplicates['near_images']:,} of them in {duplicates['near_groups']:,} "
        "groups of near-duplicates, none across folds"
    )


if __name__ == "__main__":
    run(main)
