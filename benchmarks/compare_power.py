"""False alarms and power of `captchabench compare`: how often it calls two simulated models different.

Each image has a difficulty that both models share, so that they tend to fail on the same images. Each of its five
characters is read right or wrong at random. Equal models have the same probabilities on every image: a difference at
the 5 % level is a false alarm. In the other scenarios the second model is better by a known amount: the share of
differences found is the power. No data is read, so the numbers are the same on every machine.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from benchmarks.results import default_path, finish, run, say
from captchabench.comparison.paired import mcnemar, paired_cer, paired_proportions, two_proportions

_LEVEL = 0.05
_LENGTH = 5
# Standard deviation of the difficulties, in logits: some images are nearly always read, some nearly never.
_SPREAD = 2.0
_SEED = 0


@dataclass(frozen=True)
class Scenario:
    """ease: logit of reading a character of an average image. gain: added to it for the second model."""

    images: int
    ease: float
    gain: float


SCENARIOS = (
    *(Scenario(images, 6.0, 0.0) for images in (50, 100, 200, 400, 800, 1600)),
    *(Scenario(images, 3.0, 0.0) for images in (400, 1600, 6400)),
    *(Scenario(images, 6.0, 0.6) for images in (200, 800, 1600, 3200)),
    *(Scenario(images, 3.0, 0.2) for images in (400, 1600, 6400)),
)
# Test -> heading of its column.
TESTS = {
    "verdict": "verdict",
    "mid_p": "mid-p",
    "exact_p": "exact p",
    "unpaired_p": "unpaired",
    "cer_p": "CER",
}


def main(
    pairs: Annotated[int, typer.Option(min=1, help="Simulated pairs per scenario.")] = 1000,
    out: Annotated[Path | None, typer.Option(help="The JSON file. Default: in $OUT or reports/benchmarks.")] = None,
) -> None:
    """Count the differences found at the 5 % level, before Holm's correction, in every scenario.

    For example: python -m benchmarks.compare_power --pairs 1000
    """
    rows = []
    for index, scenario in enumerate(SCENARIOS):
        say(f"{scenario}")
        rng = np.random.default_rng([_SEED, index])
        rows.append(_row(scenario, [_simulate(scenario, rng) for _ in range(pairs)]))
    result = {"benchmark": "compare_power", "level": _LEVEL, "pairs": pairs, "seed": _SEED, "rows": rows}
    notes = [f"{pairs:,} pairs per row. verdict: McNemar.p, which is mid-p but at least 5/7 of the exact p."]
    finish(out or default_path("compare_power"), result, notes, _table(rows))


def _simulate(scenario: Scenario, rng: np.random.Generator) -> dict[str, float]:
    """One pair of models: exact match of both, the number of images on which they differ, and the p-values."""
    ease = scenario.ease + _SPREAD * rng.standard_normal(scenario.images)
    before, after = (rng.binomial(_LENGTH, 1 / (1 + np.exp(ease + gain))) for gain in (0.0, scenario.gain))
    first, second = before == 0, after == 0
    both, neither = int((first & second).sum()), int((~first & ~second).sum())
    gained, lost = int((~first & second).sum()), int((first & ~second).sum())
    test = mcnemar(gained, lost)
    n = scenario.images
    return {
        "exact_first": (both + lost) / n,
        "exact_second": (both + gained) / n,
        "differing": test.differing,
        "verdict": paired_proportions(both, gained, lost, neither).p,
        "mid_p": test.mid_p,
        "exact_p": test.exact_p,
        "unpaired_p": two_proportions(both + lost, n, both + gained, n).p,
        "cer_p": paired_cer(before, after, np.full(n, _LENGTH), seed=_SEED).p,
    }


def _row(scenario: Scenario, pairs: list[dict[str, float]]) -> dict[str, Any]:
    columns = {name: np.array([pair[name] for pair in pairs]) for name in pairs[0]}
    return {
        **asdict(scenario),
        "exact_first": float(columns["exact_first"].mean()),
        "exact_second": float(columns["exact_second"].mean()),
        "differing_least": int(columns["differing"].min()),
        "differing_median": float(np.median(columns["differing"])),
        "significant": {name: float((columns[name] < _LEVEL).mean()) for name in TESTS},
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="share of pairs called different at 5 %")
    for column in ("models", "images", "exact", "", "differing", "least", *TESTS.values()):
        table.add_column(column, justify="left" if column == "models" else "right")
    for row, following in zip(rows, [*rows[1:], None], strict=True):
        table.add_row(
            "differ" if row["gain"] else "equal",
            f"{row['images']:,}",
            f"{row['exact_first']:.1%}",
            f"{row['exact_second']:.1%}",
            f"{row['differing_median']:.0f}",
            str(row["differing_least"]),
            *(f"{row['significant'][name]:.1%}" for name in TESTS),
            end_section=following is None or bool(following["gain"]) != bool(row["gain"]),
        )
    return table


if __name__ == "__main__":
    run(main, __doc__ or "")
