"""How sure a number is: intervals of proportions."""

from scipy.stats import binomtest


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson 1927). Raises ValueError for no trials."""
    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)
