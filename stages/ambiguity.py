"""ambiguity: the fonts of the stand-ins -> metrics/ambiguity.csv, which has no rows for other sources."""

from pathlib import Path

from captchabench.config import load_params
from captchabench.datasets import DATASETS
from captchabench.storage.files import write_text
from captchabench.studies.ambiguity import ambiguity
from stages import run


def main() -> None:
    params = load_params()
    # Images of the user's own have no stand-ins.
    known = set(DATASETS.names()) if params.data.source == "standin" else set()
    drawn = [DATASETS[name] for name in params.matrix.datasets if name in known]
    table = ambiguity(drawn, params.data.source)
    write_text(Path("metrics/ambiguity.csv"), table.write_csv(float_precision=6))
    ceilings = ", ".join(
        f"{dataset} {ceiling:.1%}" for dataset, ceiling in table.select("dataset", "ceiling_exact").rows()
    )
    print(f"ambiguity: highest exact match possible: {ceilings or 'known for stand-ins only'}")


if __name__ == "__main__":
    run(main)
