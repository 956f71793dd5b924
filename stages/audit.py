"""audit: all shards -> metrics/data/audit.json; fails where near-duplicates straddle folds, or a fold is empty."""

from pathlib import Path

from captchabench.audit import EXAMPLES, audit
from captchabench.config import load_params
from captchabench.errors import InputError
from captchabench.storage.files import write_json
from stages import run
from stages.leftovers import remove_leftovers

OUTPUT = Path("metrics/data/audit.json")


def main() -> None:
    params = load_params()
    remove_leftovers(params.matrix)
    result = audit([Path(f"data/shards/{name}") for name in params.matrix.all_datasets], params.folds.count)
    # Written in any case: it is where to look when this stage fails.
    write_json(OUTPUT, result.figures)
    if result.empty_folds:
        empty = "; ".join(f"{name} fold {', '.join(map(str, folds))}" for name, folds in result.empty_folds.items())
        raise InputError(
            f"folds without images: {empty}; see {OUTPUT}, then run `dvc repro --force normalize`, "
            "and should that not help, lower folds.count in params.yaml"
        )
    if result.leaks:
        named = "; ".join(" ~ ".join(group[:EXAMPLES]) for group in result.leaks[:EXAMPLES])
        raise InputError(
            f"{len(result.leaks)} groups of near-duplicates straddle folds: {named}; see {OUTPUT}, then run "
            "`dvc repro --force normalize`, or take copies that two datasets share out of one of them"
        )
    images = sum(dataset["images"] for dataset in result.figures["datasets"].values())
    duplicates = result.figures["duplicates"]
    print(
        f"audit: {images:,} images, {duplicates['near_images']:,} of them in {duplicates['near_groups']:,} "
        "groups of near-duplicates, none across folds"
    )


if __name__ == "__main__":
    run(main)
