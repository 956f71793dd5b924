"""False alarms and power of `captchabench compare`: how often it calls two simulated models different.

Each image has a difficulty that both models share, so that they tend to fail on the same images. Each of its five
characters is read right or wrong at random. Equal models have the same probabilities on every image: a difference at
the 5 % level is a false alarm. In the other scenarios the second model is better by a known amount: the share of
differences found is the power.

The second table is about the change: each training also moves the logits of all images by chance, so that two
trainings of one program differ. It compares the tests that could judge whether the program changed.

No data is read, so the numbers are the same on every machine.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from rich.table import Table

from benchmarks.results import default_path, finish, run, say
from captchabench.comparison.compare import CER_FACTOR
from captchabench.comparison.paired import mcnemar, paired_cer, paired_proportions, two_proportions
from captchabench.comparison.retraining import (
    Metric,
    Retraining,
    assumed,
    change_test,
    from_folds,
    from_studies,
    image_spread,
    measured,
    nadeau_bengio,
)
from captchabench.studies.noise import DEFAULT_TRAININGS, icc, noise_row

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


@dataclass(frozen=True)
class Retrained:
    """Two sides of one program, or of two that differ by `gain`.

    images: held out, over all folds. ease, gain: as in Scenario. shift: standard deviation, in logits, of what one
    training adds to all images. folds: 1, with a study of retraining; or several, each with trainings of its own.
    """

    images: int
    ease: float
    shift: float
    folds: int = 1
    gain: float = 0.0


# Standard deviation for an intraclass correlation of 0.0027, that of five retrainings of crnn on fournierp.
MEASURED_SHIFT = 0.3
# Multiples of its variance, the last one five times as large as measured.
_SHIFTS = tuple(MEASURED_SHIFT * multiple**0.5 for multiple in (0.0, 0.5, 1.0, 2.0, 5.0))
RETRAINED = (
    *(Retrained(1200, 6.0, shift) for shift in _SHIFTS),
    *(Retrained(4000, 3.0, shift) for shift in _SHIFTS),
    *(Retrained(1000, 6.0, shift, folds=5) for shift in _SHIFTS),
    *(Retrained(1200, 6.0, shift, gain=1.2) for shift in _SHIFTS),
    *(Retrained(1000, 6.0, shift, folds=5, gain=1.2) for shift in _SHIFTS),
)
CHANGE_TESTS = {
    "networks": "networks (a)",
    "change": "change (b)",
    "bootstrap": "hierarchical bootstrap",
    "nadeau_bengio": "Nadeau-Bengio",
    "assumed": "assumed",
    "either": "(b) or CER",
}
# Of each bootstrap in the second table: enough for a p near 5 %.
_RESAMPLES = 1000
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
    changes = []
    for index, retrained in enumerate(RETRAINED):
        say(f"{retrained}")
        rng = np.random.default_rng([_SEED, len(SCENARIOS), index])
        changes.append(_change_row(retrained, [_retrain(retrained, rng) for _ in range(pairs)]))
    result = {"benchmark": "compare_power", "level": _LEVEL, "pairs": pairs, "seed": _SEED, "rows": rows}
    notes = [
        f"{pairs:,} pairs per row. verdict: McNemar.p, which is mid-p but at least 5/7 of the exact p.",
        f"change, one fold: noise from {DEFAULT_TRAININGS} more trainings of the first program. ICC: as they show it.",
    ]
    finish(out or default_path("compare_power"), result | {"changes": changes}, notes, _table(rows), _changes(changes))


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


def _retrain(scenario: Retrained, rng: np.random.Generator) -> dict[str, float]:
    """One pair of sides, and the trainings that estimate the noise: exact match of both, and the p-values."""
    folds, per_fold = scenario.folds, scenario.images // scenario.folds
    old, new, study = [], [], np.zeros((0, per_fold), np.int64)
    for fold in range(folds):
        ease = scenario.ease + _SPREAD * rng.standard_normal(per_fold)
        trainings = 2 + (DEFAULT_TRAININGS if folds == 1 else 0)
        logits = ease + scenario.shift * rng.standard_normal((trainings, 1))
        logits[1] += scenario.gain
        edits = rng.binomial(_LENGTH, 1 / (1 + np.exp(logits)))
        old.append(edits[0])
        new.append(edits[1])
        study = edits[2:] if fold == 0 else study
    first, second = np.concatenate(old), np.concatenate(new)
    right = (first == 0, second == 0)
    gained, lost = int((~right[0] & right[1]).sum()), int((right[0] & ~right[1]).sum())
    n = len(first)
    differences = [float((b == 0).mean() - (a == 0).mean()) for a, b in zip(old, new, strict=True)]
    characters = np.full(n, _LENGTH)
    studied = noise_row(study == 0, study, characters[:per_fold]) if folds == 1 else {}
    share = float(np.mean([right[0].mean(), right[1].mean()]))
    error = float((first.mean() + second.mean()) / 2 / _LENGTH)
    p = mcnemar(gained, lost).p

    def judged(adding: Retraining) -> float:
        return change_test((gained - lost) / n, p, (gained + lost) / n**2, 0.0, n, adding).p

    squares = [float(((b == 0) != (a == 0)).sum()) / per_fold**2 for a, b in zip(old, new, strict=True)]
    change = second - first
    cer_differences = [float((b - a).sum()) / per_fold / _LENGTH for a, b in zip(old, new, strict=True)]
    cer_squares = [float(((b - a) ** 2).sum()) / (per_fold * _LENGTH) ** 2 for a, b in zip(old, new, strict=True)]
    of_cer = _adding("cer", studied, image_spread("cer", error), cer_differences, cer_squares)
    variance = float((change**2).sum()) / (n * _LENGTH) ** 2
    cer = change_test(
        float(change.sum()) / n / _LENGTH,
        paired_cer(first, second, characters, _SEED, _RESAMPLES).p,
        variance,
        0.0,
        n,
        of_cer,
    ).p
    spread = image_spread("exact", share)
    exact = judged(_adding("exact", studied, spread, differences, squares))
    return {
        "exact_first": float(right[0].mean()),
        "exact_second": float(right[1].mean()),
        "icc": icc(studied) if studied else float("nan"),
        "networks": p,
        "change": exact,
        "bootstrap": _hierarchical_bootstrap(differences, gained / n, lost / n, n, study, rng),
        "nadeau_bengio": nadeau_bengio(differences, 1 / (folds - 1)) if folds > 1 else float("nan"),
        "assumed": judged(assumed("exact", spread, folds)),
        "either": min(exact, CER_FACTOR * cer),
    }


def _adding(
    metric: Metric,
    studied: dict[str, float | int],
    spread: float,
    differences: list[float],
    variances: list[float],
) -> Retraining:
    """What retraining adds, from a study where there is one, otherwise from the folds."""
    if not studied:
        return from_folds(differences, variances)
    noise = measured(studied)[metric].at(spread)
    return from_studies(noise, noise, 1, same=True)


def _hierarchical_bootstrap(
    differences: list[float], gained: float, lost: float, n: int, study: NDArray[np.int64], rng: np.random.Generator
) -> float:
    """The percentile bootstrap over trainings and images; its p is twice the share of resamples beyond 0."""
    counts = rng.multinomial(n, [gained, lost, max(0.0, 1 - gained - lost)], _RESAMPLES)
    of_images = (counts[:, 0] - counts[:, 1]) / n
    if len(study):
        # Each side is a training drawn from the study: its deviation from their mean.
        shares = (study == 0).mean(axis=1)
        deviations = (shares - shares.mean()) * (len(shares) / (len(shares) - 1)) ** 0.5
        drawn = rng.choice(deviations, (2, _RESAMPLES))
        resampled = of_images + drawn[0] - drawn[1]
    else:
        resampled = rng.choice(differences, (_RESAMPLES, len(differences))).mean(axis=1)
        resampled += of_images - (gained - lost)
    beyond = min((resampled <= 0).mean(), (resampled >= 0).mean())
    return min(1.0, 2 * float(beyond))


def _change_row(scenario: Retrained, pairs: list[dict[str, float]]) -> dict[str, Any]:
    columns = {name: np.array([pair[name] for pair in pairs]) for name in pairs[0]}
    found = {
        name: None if np.isnan(columns[name]).any() else float((columns[name] < _LEVEL).mean()) for name in CHANGE_TESTS
    }
    means = {name: float(columns[name].mean()) for name in ("exact_first", "exact_second", "icc")}
    icc_or_none = None if np.isnan(means["icc"]) else means["icc"]
    return {**asdict(scenario), **means, "icc": icc_or_none, "significant": found}


def _changes(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="share of pairs called changed at 5 %")
    for column in ("programs", "images", "folds", "shift", "ICC", "exact", "", *CHANGE_TESTS.values()):
        table.add_column(column, justify="left" if column == "programs" else "right")
    for row in rows:
        shares = (row["significant"][name] for name in CHANGE_TESTS)
        table.add_row(
            "differ" if row["gain"] else "equal",
            f"{row['images']:,}",
            str(row["folds"]),
            f"{row['shift']:.2f}",
            "" if row["icc"] is None else f"{row['icc']:.4f}",
            f"{row['exact_first']:.1%}",
            f"{row['exact_second']:.1%}",
            *("" if share is None else f"{share:.1%}" for share in shares),
        )
    return table


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
