"""The leaderboard as ranked tables, one a dataset, ready for any medium."""

from dataclasses import dataclass
from typing import Any

import polars as pl

from captchabench.datasets import UNION

SOURCES = {
    "standin": "drawn stand-ins, not the Kaggle images",
    "archive": "images from local archives",
    "kaggle": "Kaggle",
}


@dataclass(frozen=True)
class Ranking:
    """One dataset's rows, best first. Each row is a row of the leaderboard with what `readers` adds."""

    dataset: str
    source: str
    version: int
    n: int
    rows: list[dict[str, Any]]

    @property
    def heading(self) -> str:
        """The dataset, with the source, so that no table is taken for what it is not."""
        return f"{self.dataset} · {source_note(self.source)}"

    @property
    def grids(self) -> bool:
        """Whether its images are grids of tiles."""
        return self.rows[0]["selection"] is not None

    @property
    def images(self) -> str:
        """How many images were read, in words."""
        return f"{self.n:,} {'grids of 3×3 tiles' if self.grids else 'images'}"

    @property
    def best(self) -> list[str]:
        """Readers that share the highest exact match."""
        top = self.rows[0]["exact"]
        return [row["reader"] for row in self.rows if row["exact"] == top]


def source_note(source: str) -> str:
    """Where images came from, in words."""
    return SOURCES.get(source, source)


def rankings(board: pl.DataFrame) -> list[Ranking]:
    """One ranking a dataset, in the leaderboard's order, by exact match (ties: lower CER, then name).

    A model trained on `union` stands in every member's ranking as well, as it read the same images.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in readers(board).iter_rows(named=True):
        groups.setdefault(row["read"], []).append(row)
    result = []
    for dataset, rows in sorted(groups.items(), key=lambda g: (g[0] == UNION, g[0])):
        rows.sort(key=lambda r: (-r["exact"], r["cer"], r["reader"]))
        # The union's version is not the member's: take the row that was trained on the dataset alone.
        own = next((r for r in rows if r["dataset"] == dataset), rows[0])
        result.append(Ranking(dataset, own["source"], own["version"], own["n"], rows))
    return result


def readers(table: pl.DataFrame) -> pl.DataFrame:
    """`table` (columns dataset, model) with two columns more: `read`, the dataset that the images come from,
    and `reader`, the model, and the dataset it was trained on where that is another."""
    merged = pl.col("dataset").str.starts_with(f"{UNION}/")
    return table.with_columns(
        read=pl.col("dataset").str.strip_prefix(f"{UNION}/"),
        reader=pl.when(merged).then(pl.col("model") + f" (trained on {UNION})").otherwise(pl.col("model")),
    )


def percent(share: float) -> str:
    """A share as a percentage with one decimal, and never 100.0 for less than all."""
    text = f"{share:.1%}"
    return f"{share:.3%}" if text == "100.0%" and share < 1 else text


def interval(row: dict[str, Any]) -> str:
    """The 95 % interval of a row's exact match, in per cent."""
    return f"{100 * row['exact_lo']:.1f}–{100 * row['exact_hi']:.1f}"


def folds_note(folds: int) -> str:
    """How many folds, in words."""
    return "1 fold" if folds == 1 else f"{folds} folds"
