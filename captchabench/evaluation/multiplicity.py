"""Many comparisons in one table: what each p-value is worth."""

from collections.abc import Sequence

from statsmodels.stats.multitest import multipletests


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the same order: at 5 %, the chance of even one false finding is 5 % (Holm 1979).

    Only comparisons that were made belong here: leave out those without a p-value.
    """
    return [float(p) for p in multipletests(p_values, method="holm")[1]] if len(p_values) else []
