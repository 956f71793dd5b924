"""Compares two sides of the benchmark row by row: what changed, by how much, and whether chance explains it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import editdistance
import numpy as np
import polars as pl
from numpy.typing import NDArray

from captchabench.comparison.paired import Difference, McNemar, mcnemar, paired_cer, paired_proportions, two_proportions
from captchabench.comparison.sides import Key, PredictionsMissing, Result, Side
from captchabench.scoring.leaderboard import DECIMALS
from captchabench.scoring.tiles import wrong_tiles

Verdict = Literal["better", "worse", "no significant change", "new", "gone", "not comparable"]
LEVEL = 0.05
# Seed of the bootstrap, so that the same sides give the same numbers.
_SEED = 0
_IMAGE = ["dataset", "sample_id"]


@dataclass(frozen=True)
class Flip:
    """An image that only one side read correctly: its label, and what the old and the new side read."""

    dataset: str
    sample_id: str
    label: str
    old: str
    new: str


@dataclass(frozen=True)
class Change:
    """New minus old, with its 95 % interval, its p-value, and the p-value after Holm's correction over all rows."""

    difference: float
    low: float
    high: float
    p: float
    p_holm: float


@dataclass(frozen=True)
class Row:
    """The comparison of one (dataset, model).

    reason: why it is not comparable, or why the test is unpaired; otherwise empty. exact, cer: None if nothing was
    tested. mcnemar, gained, lost: also None if the test is unpaired. gained: images that only the new side read
    correctly. lost: images that only the old side read correctly.
    """

    dataset: str
    model: str
    verdict: Verdict
    reason: str
    old: Result | None
    new: Result | None
    exact: Change | None = None
    cer: Change | None = None
    mcnemar: McNemar | None = None
    gained: tuple[Flip, ...] | None = None
    lost: tuple[Flip, ...] | None = None

    @property
    def test(self) -> Literal["paired", "unpaired"] | None:
        """Which test was used; None if the sides were not compared."""
        if self.exact is None:
            return None
        return "unpaired" if self.mcnemar is None else "paired"

    def as_json(self) -> dict[str, Any]:
        """The row as JSON values. Shares are rounded as in the leaderboard; p-values are not rounded."""
        result = self.new or self.old
        values: dict[str, Any] = {"dataset": self.dataset, "model": self.model, "source": result and result.source}
        values |= {"verdict": self.verdict, "reason": self.reason, "test": self.test}
        values |= {"old": _side_json(self.old), "new": _side_json(self.new)}
        values |= {"exact": _change_json(self.exact), "cer": _change_json(self.cer)}
        if self.mcnemar is not None:
            values["exact"] |= {"p_mid": self.mcnemar.mid_p, "p_exact": self.mcnemar.exact_p}
        for name, flips in (("gained", self.gained), ("lost", self.lost)):
            values[name] = None if flips is None else [asdict(flip) for flip in flips]
        return values


@dataclass(frozen=True)
class Comparison:
    """All rows, sorted by dataset and model. old, new: names of the sides, with their commits.

    packages: name -> (old, new) version of the packages whose pinned versions differ; None if a side has none.
    """

    old: str
    old_commit: str | None
    new: str
    new_commit: str | None
    rows: tuple[Row, ...]
    packages: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)

    @property
    def tested(self) -> int:
        """The number of rows with a p-value, over which Holm's correction is made."""
        return sum(row.exact is not None for row in self.rows)

    def regressions(self, margin: float = 0.0) -> list[Row]:
        """Rows that are worse by more than `margin`, a share of the images."""
        return [r for r in self.rows if r.verdict == "worse" and r.exact and r.exact.difference < -margin]

    def as_json(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return {
            "old": {"name": self.old, "commit": self.old_commit},
            "new": {"name": self.new, "commit": self.new_commit},
            "level": LEVEL,
            "packages": {name: {"old": old, "new": new} for name, (old, new) in self.packages.items()},
            "rows": [row.as_json() for row in self.rows],
        }


def compare(old: Side, new: Side) -> Comparison:
    """Compare what two sides read of the same held-out images.

    A row is better or worse if McNemar's p-value of its exact match is below LEVEL, after adjustment over the table
    (Holm 1979). If predictions are missing, a row falls back to a test of two independent shares and says so.
    """
    rows = [_row(old, new, key) for key in sorted({*old.results, *new.results})]
    adjusted = _adjusted(_adjusted(rows, "exact"), "cer")
    judged = tuple(replace(row, verdict=_verdict(row.exact)) if row.exact else row for row in adjusted)
    return Comparison(old.name, old.commit, new.name, new.commit, judged, _package_changes(old.packages, new.packages))


def _package_changes(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """The packages whose pinned versions differ; empty if a side has no lock file."""
    if not old or not new:
        return {}
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return {name: (old.get(name), new.get(name)) for name in names}


def compare_models(side: Side, old: str, new: str) -> Comparison:
    """Compare two models of one side, dataset by dataset; rows have the name of the second.

    Raises InputError if one of them has no results.
    """
    comparison = compare(side.of_model(old), side.of_model(new))
    return replace(comparison, rows=tuple(_of_models(row, old, new) for row in comparison.rows))


def _of_models(row: Row, old: str, new: str) -> Row:
    """Rename a row to the new model. A model that was not run on a dataset is neither new nor gone."""
    renamed = replace(row, model=new)
    if row.old and row.new:
        return renamed
    return replace(renamed, verdict="not comparable", reason=f"{new if row.old else old} was not run on this dataset")


def _row(old: Side, new: Side, key: Key) -> Row:
    before, after = old.results.get(key), new.results.get(key)
    if before is None or after is None:
        return Row(*key, "new" if before is None else "gone", "", before, after)
    if reason := _why_incomparable(before, after) or _how_images_differ(old, new, key):
        return Row(*key, "not comparable", reason, before, after)
    try:
        pairs = _pairs(old, new, key)
    except PredictionsMissing as missing:
        unpaired = two_proportions(before.exact, before.n, after.exact, after.n)
        pending: Verdict = "no significant change"
        return Row(*key, pending, f"unpaired test: {missing}", before, after, exact=_unadjusted(unpaired))
    return _paired_row(key, before, after, pairs)


def _paired_row(key: Key, before: Result, after: Result, pairs: pl.DataFrame) -> Row:
    label, first, second = (pairs[name].to_numpy() for name in ("label", "old", "new"))
    right_before, right_after = first == label, second == label
    gained, lost = ~right_before & right_after, right_before & ~right_after
    both, neither = (right_before & right_after).sum(), (~right_before & ~right_after).sum()
    exact = paired_proportions(int(both), int(gained.sum()), int(lost.sum()), int(neither))
    characters = np.array([len(text) for text in label], np.int64)
    classes = after.class_names
    distance = wrong_tiles if classes else editdistance.eval
    cer = paired_cer(_edits(label, first, distance), _edits(label, second, distance), characters, _SEED)
    return Row(
        *key,
        "no significant change",
        "",
        before,
        after,
        exact=_unadjusted(exact),
        cer=_unadjusted(cer),
        mcnemar=mcnemar(int(gained.sum()), int(lost.sum())),
        gained=_flips(pairs.filter(gained), classes),
        lost=_flips(pairs.filter(lost), classes),
    )


def _edits(
    labels: NDArray[np.object_], texts: NDArray[np.object_], distance: Callable[[str, str], int]
) -> NDArray[np.int64]:
    """Distances [N]: Levenshtein distances of texts; for grids, the number of wrong tiles."""
    return np.array([distance(a, b) for a, b in zip(labels, texts, strict=True)], np.int64)


def _flips(pairs: pl.DataFrame, classes: Mapping[str, str]) -> tuple[Flip, ...]:
    """One per row of `pairs`. The symbols of grids become class names."""

    def named(text: str) -> str:
        return ", ".join(classes.get(symbol, symbol) for symbol in text) if classes else text

    texts = ("label", "old", "new")
    return tuple(Flip(**row | {key: named(row[key]) for key in texts}) for row in pairs.iter_rows(named=True))


def _why_incomparable(old: Result, new: Result) -> str:
    """Why results cannot be compared, apart from their images; "" if they can."""
    if old.source != new.source:
        return f"source differs ({old.source}, {new.source})"
    if old.version != new.version:
        return f"dataset version differs ({old.version}, {new.version})"
    if old.class_names != new.class_names:
        return f"classes differ ({len(old.class_names)}, {len(new.class_names)})"
    for dataset in sorted({*old.normalisation, *new.normalisation}):
        first, second = old.normalisation.get(dataset), new.normalisation.get(dataset)
        if first is None or second is None:
            return f"{dataset} is a member of one union only"
        for name in sorted({*first, *second}):
            values = [params.get(name, "unset") for params in (first, second)]
            if values[0] != values[1]:
                return f"normalisation differs ({name} {_yaml(values[0])}, {_yaml(values[1])})"
    return ""


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _how_images_differ(old: Side, new: Side, key: Key) -> str:
    """How held-out images, their labels or their folds differ, as text; "" if they do not."""
    before, after = old.results[key], new.results[key]
    folds = [tuple(fold for _, _, fold in result.cells) for result in (before, after)]
    if folds[0] != folds[1]:
        return "held-out images differ (folds {}; {})".format(*(", ".join(map(str, of_side)) for of_side in folds))
    if before.images == after.images:
        return ""
    try:
        first, second = _predictions(old, key), _predictions(new, key)
    except PredictionsMissing:
        return f"held-out images or labels differ ({before.n:,} images, {after.n:,})"
    common = first.join(second, on=_IMAGE)
    relabelled = common.filter(pl.col("label") != pl.col("label_right")).height
    if relabelled and common.height == before.n == after.n:
        return f"held-out images differ in label ({relabelled:,} of {before.n:,})"
    return f"held-out images differ ({common.height:,} in common, of {before.n:,} and {after.n:,})"


def _pairs(old: Side, new: Side, key: Key) -> pl.DataFrame:
    """What both sides read of each image: dataset, sample_id, label, old, new, sorted by image."""
    sides = []
    for side, name in ((old, "old"), (new, "new")):
        result, read = side.results[key], _predictions(side, key)
        exact = read.filter(pl.col("prediction") == pl.col("label")).height
        if (read.height, exact) != (result.n, result.exact):
            raise PredictionsMissing(f"the predictions of {side.name} are not those of its metrics")
        sides.append(read.rename({"prediction": name}))
    pairs = sides[0].join(sides[1], on=[*_IMAGE, "label"])
    if pairs.height != old.results[key].n:
        raise PredictionsMissing("the predictions are of other images than the metrics")
    return pairs.select(*_IMAGE, "label", "old", "new").sort(_IMAGE)


def _predictions(side: Side, key: Key) -> pl.DataFrame:
    """Predictions of all folds; of `union/member` only those of the member's images."""
    read = pl.concat([side.predictions(cell) for cell in side.results[key].cells])
    member = key[0].partition("/")[2]
    return read.filter(pl.col("dataset") == member) if member else read


def _unadjusted(change: Difference) -> Change:
    return Change(change.value, change.low, change.high, change.p, change.p)


def _adjusted(rows: Sequence[Row], metric: Literal["exact", "cer"]) -> list[Row]:
    """The rows with Holm's correction of `metric` over the rows that have a p-value of it."""
    changes = [getattr(row, metric) for row in rows]
    adjusted = iter(holm([change.p for change in changes if change]))
    return [
        replace(row, **{metric: replace(change, p_holm=next(adjusted))}) if change else row
        for row, change in zip(rows, changes, strict=True)
    ]


def _verdict(change: Change) -> Verdict:
    if change.p_holm >= LEVEL:
        return "no significant change"
    return "better" if change.difference > 0 else "worse"


def _side_json(result: Result | None) -> dict[str, Any] | None:
    if result is None:
        return None
    shares = {"exact": round(result.exact_share, DECIMALS), "cer": round(result.cer, DECIMALS)}
    return {"version": result.version, "folds": len(result.cells), "n": result.n, **shares}


def _change_json(change: Change | None) -> dict[str, float] | None:
    if change is None:
        return None
    return {name: value if name.startswith("p") else round(value, DECIMALS) for name, value in asdict(change).items()}


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values in the same order. At 5 %, the chance of one or more false findings is at most 5 % (Holm 1979).

    p_values: of the comparisons that were made; leave out those without a p-value.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order])
    corrected: list[float] = np.minimum(adjusted, 1.0).tolist()
    return corrected
