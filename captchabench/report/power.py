"""What a comparison could have found, and what it would need to find a wanted difference."""

from collections.abc import Iterator

from captchabench.comparison.retraining import POWER, images_needed, trainings_needed
from captchabench.comparison.rows import LEVEL, Comparison, Row


def power_lines(comparison: Comparison, wanted: float) -> Iterator[str]:
    """One line for each tested row. wanted: a difference of exact match, a share."""
    share = f"{POWER:.0%} of the time"
    yield (
        f"To find a difference of {100 * wanted:g} points of exact match {share}, corrected for "
        f"{max(comparison.tested, 1)} rows:"
    )
    level = LEVEL / max(comparison.tested, 1)
    for row in comparison.rows:
        if row.power and row.exact:
            of_cer = f", {100 * row.cer.detectable:.2f} of CER," if row.cer else ""
            finds = f"finds {100 * row.exact.detectable:.1f} points{of_cer} with {_now(row)}"
            enough = row.exact.detectable <= wanted
            yield f"  {row.dataset}, {row.model}: {finds}; {'enough' if enough else _needs(row, wanted, level)}"


def _now(row: Row) -> str:
    assert row.power is not None  # of tested rows only
    return f"{row.power.images:,} images, {_trainings(row.power.folds)}"


def _needs(row: Row, wanted: float, level: float) -> str:
    power = row.power
    assert power is not None  # of tested rows only
    images = images_needed(wanted, power.images, power.differing, power.retraining, level)
    trainings = trainings_needed(wanted, power.images, power.folds, power.differing, power.retraining, level)
    ways = [f"{images:,} images"] if images else []
    ways += [_trainings(trainings)] if trainings else []
    return f"needs {' or '.join(ways)}" if ways else "needs more images and more trainings"


def _trainings(count: int) -> str:
    return f"{count:,} training{'s' if count > 1 else ''} of each side"
