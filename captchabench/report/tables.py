"""The leaderboard as rankings, one per dataset, for the terminal, Markdown and the page."""

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
    """The results on one dataset, best first. Each row is a row of the leaderboard with the columns of `readers`."""

    dataset: str
    source: str
    version: int
    n: int
    rows: list[dict[str, Any]]

    @property
    def heading(self) -> str:
        """The dataset and the source of its images."""
        return f"{self.dataset} · {source_note(self.source)}"

    @property
    def grids(self) -> bool:
        """Whether its images are grids of tiles."""
        return self.rows[0]["selection"] is not None

    @property
    def images(self) -> str:
        """The number of images or grids, with its unit, and how many differ if there are near-duplicates among them."""
        if self.groups is not None and self.groups < self.n:
            return f"{self.n:,} images ({self.groups:,} without near-duplicates)"
        return f"{self.n:,} {'grids of 3×3 tiles' if self.grids else 'images'}"

    @property
    def groups(self) -> int | None:
        """The number of images with near-duplicates counted once; None where they were not counted."""
        groups: int | None = self.rows[0]["groups"]
        return groups

    @property
    def ceiling(self) -> float | None:
        """The exact match that no reader can exceed on average; None where it is not known."""
        ceiling: float | None = self.rows[0]["ceiling"]
        return ceiling

    @property
    def has_ceiling(self) -> bool:
        """Whether a ceiling below 100 % is known, so that exact match as a share of it is another number."""
        return self.ceiling is not None and self.ceiling < 1

    @property
    def best(self) -> list[str]:
        """The readers that share the highest exact match."""
        top = self.rows[0]["exact"]
        return [row["reader"] for row in self.rows if row["exact"] == top]


def source_note(source: str) -> str:
    """The description of a source, or of several joined by "+"; an unknown source is returned unchanged."""
    return " and ".join(SOURCES.get(part, part) for part in source.split("+"))


def rankings(board: pl.DataFrame) -> list[Ranking]:
    """One ranking per dataset, by name, that of union last. Rows are sorted by exact match, then CER, then name.

    A model trained on union is also in the ranking of each dataset that it read, since it read the same images.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in readers(board).iter_rows(named=True):
        groups.setdefault(row["read"], []).append(row)
    result = []
    for dataset, rows in sorted(groups.items(), key=lambda g: (g[0] == UNION, g[0])):
        rows.sort(key=lambda r: (-r["exact"], r["cer"], r["reader"]))
        # Rows of union have the version of union, so source and version come from a model of the dataset itself.
        first = next((r for r in rows if r["dataset"] == dataset), rows[0])
        result.append(Ranking(dataset, first["source"], first["version"], first["n"], rows))
    return result


def readers(table: pl.DataFrame) -> pl.DataFrame:
    """`table` (columns dataset, model) with two more columns.

    read: the dataset of the images. reader: the model, with "(trained on union)" if it was trained on union but the
    images are those of one dataset.
    """
    by_union = pl.col("dataset").str.starts_with(f"{UNION}/")
    return table.with_columns(
        read=pl.col("dataset").str.strip_prefix(f"{UNION}/"),
        reader=pl.when(by_union).then(pl.col("model") + f" (trained on {UNION})").otherwise(pl.col("model")),
    )


def percent(share: float) -> str:
    """A share as a percentage with one decimal. A share below 1 is never shown as 100.0%."""
    text = f"{share:.1%}"
    return f"{share:.3%}" if text == "100.0%" and share < 1 else text


def interval(row: dict[str, Any]) -> str:
    """The 95 % interval of a row's exact match, in per cent, as "93.1–95.0"."""
    return f"{100 * row['exact_lo']:.1f}–{100 * row['exact_hi']:.1f}"


def folds_note(folds: int) -> str:
    """The number of folds, with its unit."""
    return "1 fold" if folds == 1 else f"{folds} folds"
