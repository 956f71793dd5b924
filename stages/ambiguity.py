"""ambiguity: the fonts of the stand-ins, or of a known generator -> metrics/ambiguity.csv."""

from pathlib import Path

from captchabench.config import load_params
from captchabench.datasets import DATASETS
from captchabench.storage.files import write_text
from captchabench.studies.ambiguity import ambiguity
from stages import run


def main() -> None:
    params = load_params()
    # Images of the user's own have no known fonts.
    known = [DATASETS[name] for name in params.matrix.datasets if name in DATASETS.names()]
    table = ambiguity(known, params.data.source)
    write_text(Path("metrics/ambiguity.csv"), table.write_csv(float_precision=6))
    ceilings = ", ".join(
        f"{dataset} {ceiling:.1%}" for dataset, ceiling in table.select("dataset", "ceiling_exact").rows()
    )
    print(f"ambiguity: highest exact match possible: {ceilings or 'known for no dataset of this source'}")


if __name__ == "__main__":
    run(main)
