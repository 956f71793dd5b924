"""Compares two sides of the benchmark row by row: what changed, by how much, and whether chance explains it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import editdistance
import numpy as np
import polars as pl
from numpy.typing import NDArray

from captchabench.comparison import retraining as noise
from captchabench.comparison.arithmetic import difference
from captchabench.comparison.multiplicity import can_be_significant, holm, holm_unlimited
from captchabench.comparison.paired import mcnemar, paired_cer, paired_proportions, two_proportions
from captchabench.comparison.retraining import ASSUMED_ICC, LEAST_FOLDS, Metric, Retraining, Tested, change_test
from captchabench.comparison.rows import LEVEL, Change, Comparison, Flip, Networks, Power, Row, Verdict
from captchabench.comparison.sides import Key, PredictionsMissing, Result, Side, Sums
from captchabench.scoring.cells import samples_digest
from captchabench.scoring.tiles import wrong_tiles

# The p of CER is doubled: it is a second chance for the same verdict (benchmarks/compare_power.py).
CER_FACTOR = 2.0
# Seed of the bootstrap, so that the same sides give the same numbers.
_SEED = 0
_IMAGE = ["dataset", "sample_id"]
_ASSUMED = (
    "provisional: how far retraining moves this row was not measured (`make noise` does). Assumed is an intraclass "
    f"correlation of {ASSUMED_ICC['exact']:g} ({ASSUMED_ICC['cer']:g} for CER), so that only a large change is called "
    "one (docs/statistics.md)"
)
_EXPLAINED = "the two trained models differ, but retraining the same program moves results as far"
_BY_CER = "the verdict rests on {}, not on exact match"
_MIXED = "exact match and CER changed in opposite directions"


@dataclass(frozen=True)
class _Test:
    """A test of one metric. detectable: from the level of the test to the smallest difference that it would find."""

    tested: Tested
    detectable: Callable[[float], float]


@dataclass(frozen=True)
class _Pending:
    """A row before the correction over the table. networks: of the trained models alone; None if unpaired."""

    row: Row
    exact: _Test
    cer: _Test | None
    networks: Networks | None


def compare(old: Side, new: Side) -> Comparison:
    """Compare what two sides read of the same held-out images.

    A row is better or worse if its exact match or its CER changed by more than chance on images and in retraining
    explains, at LEVEL over the table: Holm (1979), over the rows that can be significant (Tarone 1990). The test of the
    two trained models alone stands beside it. If predictions are missing, a row falls back to a test of two independent
    shares and says so.
    """
    found = [_row(old, new, key) for key in sorted({*old.results, *new.results})]
    judged = iter(_judged([row for row in found if isinstance(row, _Pending)]))
    rows = tuple(next(judged) if isinstance(row, _Pending) else row for row in found)
    packages = _package_changes(old.packages, new.packages)
    return Comparison(old.name, old.commit, new.name, new.commit, rows, packages, new.behind)


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


def _row(old: Side, new: Side, key: Key) -> Row | _Pending:
    before, after = old.results.get(key), new.results.get(key)
    if before is None or after is None:
        return Row(*key, "new" if before is None else "gone", "", before, after)
    arithmetic = difference(before.arithmetic, after.arithmetic)
    row = Row(*key, "not comparable", "", before, after, arithmetic=arithmetic)
    if reason := _why_incomparable(before, after) or _how_images_differ(old, new, key):
        return replace(row, reason=reason)
    try:
        pairs = _pairs(old, new, key)
    except PredictionsMissing as missing:
        return _unpaired(replace(row, reason=f"unpaired test: {missing}"), before, after)
    return _paired(row, before, after, pairs)


def _unpaired(row: Row, before: Result, after: Result) -> _Pending:
    value, _, _, p = two_proportions(before.exact, before.n, after.exact, after.n)
    folds = list(zip(before.by_fold, after.by_fold, strict=False))
    differences = [second.exact / second.n - first.exact / first.n for first, second in folds]
    adding = _retraining("exact", before, after, differences, [_independent(*fold) for fold in folds])
    variance = _independent(before, after)
    # The most extreme outcome has all images of one side wrong, so any p could have been reached.
    power = Power(before.n, variance * before.n, len(before.cells), adding)
    test = _Test(
        change_test(value, p, variance, 0.0, before.n, adding),
        partial(noise.detectable, power.images, power.differing, adding),
    )
    return _Pending(replace(row, basis=adding.basis, power=power), test, None, None)


def _independent(first: Result | Sums, second: Result | Sums) -> float:
    """The variance of the difference of two shares, if they are equal and their images independent."""
    share = (first.exact + second.exact) / (first.n + second.n)
    return share * (1 - share) * (1 / first.n + 1 / second.n)


def _paired(row: Row, before: Result, after: Result, pairs: pl.DataFrame) -> _Pending:
    label, first, second = (pairs[name].to_numpy() for name in ("label", "old", "new"))
    fold = pairs["fold"].to_numpy()
    right_before, right_after = first == label, second == label
    gained, lost = ~right_before & right_after, right_before & ~right_after
    classes = after.class_names
    distance = wrong_tiles if classes else editdistance.eval
    characters = np.array([len(text) for text in label], np.int64)
    edits = _edits(label, first, distance), _edits(label, second, distance)
    test = mcnemar(int(gained.sum()), int(lost.sum()))
    ones = np.ones(len(label), np.int64)
    of_exact = _Differences.of(right_after.astype(np.int64) - right_before, ones, fold)
    of_cer = _Differences.of(edits[1] - edits[0], characters, fold)
    adding = {
        "exact": _retraining("exact", before, after, of_exact.values, of_exact.variances),
        "cer": _retraining("cer", before, after, of_cer.values, of_cer.variances),
    }
    exact = change_test(
        of_exact.value, test.p, of_exact.variance, mcnemar(test.differing, 0).p, before.n, adding["exact"]
    )
    p_cer = paired_cer(*edits, characters, _SEED).p
    # Whatever the lengths of the changes, at most their signs can all agree.
    cer = change_test(of_cer.value, p_cer, of_cer.variance, 2.0 * 0.5**of_cer.differing, before.n, adding["cer"])
    trained_on = len(before.cells) - 1
    corrected = noise.nadeau_bengio(of_exact.values, 1 / trained_on) if adding["exact"].basis == "folds" else None
    both, neither = int((right_before & right_after).sum()), int((~right_before & ~right_after).sum())
    alone = paired_proportions(both, int(gained.sum()), int(lost.sum()), neither)
    differing = test.differing / before.n
    # Characters stand for images, and the squared changes of a character for the images that differ.
    changes = of_cer.variance * before.characters
    return _Pending(
        replace(
            row,
            gained=_flips(pairs.filter(gained), classes),
            lost=_flips(pairs.filter(lost), classes),
            basis=adding["exact"].basis,
            power=Power(before.n, differing, len(before.cells), adding["exact"], corrected),
        ),
        _Test(exact, partial(noise.detectable, before.n, differing, adding["exact"])),
        _Test(cer, partial(noise.detectable, before.characters, changes, adding["cer"])),
        Networks(test, alone.low, alone.high),
    )


@dataclass(frozen=True)
class _Differences:
    """A difference of two ratios over the same images: pooled, and of each fold; variances as if both were equal.

    differing: the number of images on which the two sides differ.
    """

    value: float
    variance: float
    values: list[float]
    variances: list[float]
    differing: int

    @classmethod
    def of(cls, changes: NDArray[np.int64], weights: NDArray[np.int64], fold: NDArray[np.int64]) -> "_Differences":
        """changes: [N] of the numerators. weights: [N], the denominators. fold: [N], from 0."""
        sums, weight, squares = (np.bincount(fold, of) for of in (changes, weights, changes**2))
        total = float(weight.sum())
        return cls(
            float(sums.sum()) / total,
            float(squares.sum()) / total**2,
            (sums / weight).tolist(),
            (squares / weight**2).tolist(),
            int(np.count_nonzero(changes)),
        )


def _retraining(
    metric: Metric, old: Result, new: Result, differences: Sequence[float], variances: Sequence[float]
) -> Retraining:
    """What retraining adds to the variance of a difference, from the best source at hand."""
    folds = len(old.cells)
    if len(differences) >= LEAST_FOLDS:
        return noise.from_folds(differences, variances)
    shares = [result.exact_share if metric == "exact" else result.cer for result in (old, new)]
    spread = noise.image_spread(metric, sum(shares) / 2)
    measured = [result.noise[metric] for result in (old, new) if metric in result.noise]
    if measured:
        first, second = measured[0], measured[-1]
        return noise.from_studies(first.at(spread), second.at(spread), folds, same=first == second)
    return noise.assumed(metric, spread, folds)


def _judged(pending: Sequence[_Pending]) -> list[Row]:
    """The rows with corrected p-values, intervals that belong to them, and verdicts."""
    exact = _corrected([one.exact for one in pending], 1.0)
    cer = iter(_corrected([one.cer for one in pending if one.cer], CER_FACTOR))
    networks = iter(_networks([one.networks for one in pending if one.networks]))
    rows = []
    for one, change in zip(pending, exact, strict=True):
        row = replace(
            one.row,
            exact=change,
            cer=next(cer) if one.cer else None,
            networks=next(networks) if one.networks else None,
        )
        rows.append(_with_verdict(row))
    return rows


def _corrected(tests: Sequence[_Test], factor: float) -> list[Change]:
    """The changes of one family of tests. factor: by which all p-values are multiplied."""
    tested = [test.tested for test in tests]
    kept = can_be_significant([one.attainable for one in tested], LEVEL / factor)
    adjusted = iter(holm_unlimited([one.p for one, is_kept in zip(tested, kept, strict=True) if is_kept]))
    strictest = LEVEL / factor / max(1, sum(kept))
    changes = []
    for test, one, is_kept in zip(tests, tested, kept, strict=True):
        unlimited = factor * next(adjusted) if is_kept else None
        # So much stricter has the test become, and so much wider is its interval.
        level = LEVEL * one.p / unlimited if unlimited else LEVEL / factor
        p_holm = None if unlimited is None else min(unlimited, 1.0)
        changes.append(Change(one.value, *one.interval(level), one.p, p_holm, test.detectable(strictest)))
    return changes


def _networks(tests: Sequence[Networks]) -> list[Networks]:
    kept = can_be_significant([mcnemar(test.mcnemar.differing, 0).p for test in tests], LEVEL)
    adjusted = iter(holm([test.mcnemar.p for test, is_kept in zip(tests, kept, strict=True) if is_kept]))
    return [
        replace(test, p_holm=next(adjusted) if is_kept else None) for test, is_kept in zip(tests, kept, strict=True)
    ]


def _with_verdict(row: Row) -> Row:
    signs: set[Verdict] = set()
    notes = []
    if row.exact and row.exact.significant:
        signs.add("better" if row.exact.difference > 0 else "worse")
    elif row.cer and row.cer.significant:
        notes.append(_BY_CER.format("tiles" if row.new and row.new.class_names else "CER"))
    if row.cer and row.cer.significant:
        signs.add("better" if row.cer.difference < 0 else "worse")
    verdict: Verdict = "no significant change" if not signs else "mixed" if len(signs) > 1 else signs.pop()
    if verdict == "mixed":
        notes.append(_MIXED)
    if verdict == "no significant change" and row.networks and (row.networks.p_holm or 1) < LEVEL:
        notes.append(_EXPLAINED)
    if row.arithmetic:
        notes.append(f"the arithmetic differs: {row.arithmetic}")
    if row.basis == "assumed":
        notes.append(_ASSUMED)
    return replace(row, verdict=verdict, notes=tuple(notes))


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
    shown = pairs.drop("fold").iter_rows(named=True)
    return tuple(Flip(**row | {key: named(row[key]) for key in texts}) for row in shown)


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
    """What both sides read of each image: dataset, sample_id, label, fold (from 0), old, new, sorted by image."""
    sides = []
    for side, name in ((old, "old"), (new, "new")):
        result, read = side.results[key], _predictions(side, key)
        exact = read.filter(pl.col("prediction") == pl.col("label")).height
        if (read.height, exact) != (result.n, result.exact):
            raise PredictionsMissing(f"the predictions of {side.name} are not those of its metrics")
        digests = [samples_digest(*of_fold[[*_IMAGE, "label"]]) for of_fold in read.partition_by("fold")]
        if tuple(digests) != result.images:
            raise PredictionsMissing(f"the predictions of {side.name} are of other images than its metrics")
        sides.append(read.rename({"prediction": name}))
    pairs = sides[0].join(sides[1], on=[*_IMAGE, "label", "fold"])
    return pairs.select(*_IMAGE, "label", "fold", "old", "new").sort(_IMAGE)


def _predictions(side: Side, key: Key) -> pl.DataFrame:
    """Predictions of all folds, numbered from 0; of `union/member` only those of the member's images."""
    folds = [side.predictions(cell) for cell in side.results[key].cells]
    read = pl.concat(of_fold.with_columns(fold=pl.lit(number)) for number, of_fold in enumerate(folds))
    member = key[0].partition("/")[2]
    return read.filter(pl.col("dataset") == member) if member else read
