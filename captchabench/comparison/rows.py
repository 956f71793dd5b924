"""The rows of a comparison: what changed, the verdict on it, and what the verdict rests on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from captchabench.comparison.paired import McNemar
from captchabench.comparison.retraining import Basis, Retraining
from captchabench.comparison.sides import Result
from captchabench.scoring.leaderboard import DECIMALS

Verdict = Literal["better", "worse", "mixed", "no significant change", "new", "gone", "not comparable"]
LEVEL = 0.05
PROVISIONAL = "provisional"


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
    """New minus old, tested against images and retraining together.

    low, high: the interval that belongs to the verdict, at 95 % over the whole table; it excludes 0 exactly if p_holm
    is below LEVEL. p: of this row alone. p_holm: after Holm's correction over the rows that could be significant;
    None for the others. detectable: the smallest true difference that this comparison would have found four times in
    five.
    """

    difference: float
    low: float
    high: float
    p: float
    p_holm: float | None
    detectable: float

    @property
    def significant(self) -> bool:
        """Whether chance, on images and in training, does not explain the difference."""
        return self.p_holm is not None and self.p_holm < LEVEL


@dataclass(frozen=True)
class Networks:
    """The two trained models themselves, on the same images.

    low, high: Newcombe's 95 % interval of the difference, not corrected. p_holm: of McNemar's test, corrected over the
    table; None if too few images differ for a significant result.
    """

    mcnemar: McNemar
    low: float
    high: float
    p_holm: float | None = None


@dataclass(frozen=True)
class Power:
    """What the power of a row follows from: see `retraining.detectable`. folds: trainings of each side.

    nadeau_bengio: the p of their corrected test over folds; None with fewer than LEAST_FOLDS.
    """

    images: int
    differing: float
    folds: int
    retraining: Retraining
    nadeau_bengio: float | None = None


@dataclass(frozen=True)
class Row:
    """The comparison of one (dataset, model).

    reason: why it is not comparable, or why the test is unpaired; otherwise empty. notes: what else to know. exact,
    cer: the change; None if nothing was tested. networks, gained, lost: also None if the test is unpaired. gained:
    images that only the new side read correctly. lost: images that only the old side read correctly. basis: where the
    estimate of retraining is from. arithmetic: how it differs; empty if it does not. power: what the row's power
    follows from.
    """

    dataset: str
    model: str
    verdict: Verdict
    reason: str
    old: Result | None
    new: Result | None
    exact: Change | None = None
    cer: Change | None = None
    networks: Networks | None = None
    gained: tuple[Flip, ...] | None = None
    lost: tuple[Flip, ...] | None = None
    basis: Basis | None = None
    notes: tuple[str, ...] = ()
    arithmetic: str = ""
    power: Power | None = None

    @property
    def test(self) -> Literal["paired", "unpaired"] | None:
        """Which test was used; None if the sides were not compared."""
        if self.exact is None:
            return None
        return "unpaired" if self.networks is None else "paired"

    @property
    def words(self) -> str:
        """The verdict, and whether it is provisional: the same words in every output."""
        return f"{self.verdict} ({PROVISIONAL})" if self.basis == "assumed" else self.verdict

    @property
    def judged(self) -> bool:
        """Whether old and new were compared; a new row has nothing to be compared with."""
        return self.verdict not in ("gone", "not comparable")

    def lost_more_than(self, margin: float) -> bool:
        """Whether a significant loss of exact match, or rise of CER, exceeds `margin`, a share."""
        exact, cer = self.exact, self.cer
        return bool(
            (exact and exact.significant and exact.difference < -margin)
            or (cer and cer.significant and cer.difference > margin)
        )

    def as_json(self) -> dict[str, Any]:
        """The row as JSON values. Shares are rounded as in the leaderboard; p-values are not rounded."""
        result = self.new or self.old
        values: dict[str, Any] = {"dataset": self.dataset, "model": self.model, "source": result and result.source}
        values |= {"verdict": self.verdict, "provisional": self.basis == "assumed", "words": self.words}
        values |= {"reason": self.reason, "notes": list(self.notes), "arithmetic": self.arithmetic}
        values |= {
            "test": self.test,
            "retraining": self.basis,
            "old": _side_json(self.old),
            "new": _side_json(self.new),
        }
        values |= {"exact": _change_json(self.exact), "cer": _change_json(self.cer), "networks": None}
        if self.networks is not None:
            test, ends = self.networks.mcnemar, (self.networks.low, self.networks.high)
            interval = dict(zip(("low", "high"), (round(end, DECIMALS) for end in ends), strict=True))
            p_values = {"p_mid": test.mid_p, "p_exact": test.exact_p, "p": test.p, "p_holm": self.networks.p_holm}
            values["networks"] = {"differing": test.differing, **interval, **p_values}
        if self.power is not None and self.power.nadeau_bengio is not None:
            values["exact"]["p_nadeau_bengio"] = self.power.nadeau_bengio
        for name, flips in (("gained", self.gained), ("lost", self.lost)):
            values[name] = None if flips is None else [asdict(flip) for flip in flips]
        return values


@dataclass(frozen=True)
class Comparison:
    """All rows, sorted by dataset and model. old, new: names of the sides, with their commits.

    packages: name -> (old, new) version of the packages whose pinned versions differ; None if a side has none. behind:
    what was changed after the new side's results were made.
    """

    old: str
    old_commit: str | None
    new: str
    new_commit: str | None
    rows: tuple[Row, ...]
    packages: Mapping[str, tuple[str | None, str | None]] = field(default_factory=dict)
    behind: tuple[str, ...] = ()

    @property
    def tested(self) -> int:
        """The number of rows that could be significant, over which Holm's correction of exact match is made."""
        return sum(row.exact is not None and row.exact.p_holm is not None for row in self.rows)

    def regressions(self, margin: float = 0.0) -> list[Row]:
        """Rows that are worse by more than `margin`, a share of the images, or of the characters for CER."""
        return [row for row in self.rows if row.lost_more_than(margin)]

    def unjudged(self) -> list[str]:
        """What the comparison cannot judge, each as a clause; empty if every row of the old side was judged."""
        clauses = [f"{row.model} on {row.dataset}: {row.reason or row.verdict}" for row in self.rows if not row.judged]
        if self.behind:
            clauses.append(f"the results of {self.new} are older than {', '.join(self.behind)}; run `dvc repro`")
        if not any(row.exact for row in self.rows):
            clauses.append("no row was tested")
        return clauses

    def as_json(self) -> dict[str, Any]:
        """The comparison as JSON values."""
        return {
            "old": {"name": self.old, "commit": self.old_commit},
            "new": {"name": self.new, "commit": self.new_commit},
            "level": LEVEL,
            "packages": {name: {"old": old, "new": new} for name, (old, new) in self.packages.items()},
            "not_judged": self.unjudged(),
            "rows": [row.as_json() for row in self.rows],
        }


def _side_json(result: Result | None) -> dict[str, Any] | None:
    if result is None:
        return None
    shares = {"exact": round(result.exact_share, DECIMALS), "cer": round(result.cer, DECIMALS)}
    return {"version": result.version, "folds": len(result.cells), "n": result.n, **shares}


def _change_json(change: Change | None) -> dict[str, Any] | None:
    if change is None:
        return None
    return {name: value if name.startswith("p") else round(value, DECIMALS) for name, value in asdict(change).items()}
