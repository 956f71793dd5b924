"""metrics/leaderboard.md: the leaderboard as Markdown, for a repository browser."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from captchabench.report.tables import Ranking, folds_note, interval, percent, rankings
from captchabench.scoring.metrics import METRICS

_COLUMNS = {
    "exact": "exact",
    "exact_folded": "case-folded",
    "cer": "CER",
    "char_accuracy": "characters",
    "position_accuracy": "in place",
    "f1": "F1",
    "ece": "ECE",
    "parameters": "parameters",
}
_PROVENANCE = {
    "pretraining": "what the weights started from; empty where from random ones, or from none",
    "arithmetic": "of training; empty where no network is trained",
}
# For grids, these metrics are about tiles. Classes have no case: that column holds the challenges solved.
_OF_GRIDS = {"exact_folded": "selected", "cer": "tiles wrong", "char_accuracy": "tiles right"}


def markdown(board: pl.DataFrame, bases: Mapping[str, str]) -> str:
    """One table per dataset with the best exact match first and in bold, then notes on the columns.

    bases: dataset -> how its ceiling was found, where it has one. A ceiling of 100 % needs no column.

    There are no times, which differ from run to run: this file is to change only if results do.
    """
    lines = ["# Leaderboard", ""]
    for ranking in rankings(board):
        lines += [f"## {ranking.heading}", "", _scope(ranking, bases), ""]
        titles = list((_COLUMNS | (_OF_GRIDS if ranking.grids else {})).values())
        shares = ["of ceiling"] if ranking.has_ceiling else []
        lines += ["| " + " | ".join(["model", titles[0], "95 %", *shares, *titles[1:], *_PROVENANCE]) + " |"]
        lines += ["|---|" + "--:|" * (len(titles) + 1 + len(shares)) + "---|" * len(_PROVENANCE)]
        lines += [_line(row, ranking) for row in ranking.rows]
        lines += [""]
    lines += ["## Columns", ""]
    for name, title in _COLUMNS.items():
        metric = METRICS[name]
        better = "higher" if metric.higher_is_better else "lower"
        lines.append(f"- **{title}**: {metric.description}; {better} is better.")
    lines += [f"- **{name}**: {meaning}." for name, meaning in _PROVENANCE.items()]
    lines += [
        f"- **selected** (grids of tiles): {METRICS['selection'].description}; higher is better.",
        "- **tiles right**, **tiles wrong** (grids of tiles): their shares, tile by tile.",
        "- **95 %**: Wilson interval of exact, in per cent, over all images shown; near-duplicates count as one image, "
        "read entirely right or not.",
        "- **of ceiling**: exact as a share of the exact match that no reader can exceed on average, where symbols are "
        "drawn alike (`ambiguity.csv`); higher is better. Chance can carry it past 100 %.",
        "",
        "All columns, and the times, are in `leaderboard.csv`.",
        "",
    ]
    return "\n".join(lines)


def _scope(ranking: Ranking, bases: Mapping[str, str]) -> str:
    folds = max(row["folds"] for row in ranking.rows)
    scope = f"Version {ranking.version}, {ranking.images} held out, {folds_note(folds)}."
    if ranking.ceiling is not None:
        scope += f" Ceiling of exact match: {percent(ranking.ceiling)} ({bases[ranking.dataset]})."
    return scope


def _line(row: dict[str, Any], ranking: Ranking) -> str:
    mark = "**" if row["reader"] in ranking.best else ""
    cells = [
        f"{mark}{row['reader']}{mark}",
        f"{mark}{percent(row['exact'])}{mark}",
        interval(row),
        *([percent(row["of_ceiling"])] if ranking.has_ceiling else []),
        percent(row["selection"] if ranking.grids else row["exact_folded"]),
        percent(row["cer"]),
        percent(row["char_accuracy"]),
        "" if ranking.grids else percent(row["position_accuracy"]),
        f"{row['f1']:.3f}",
        f"{row['ece']:.3f}",
        f"{row['parameters']:,}",
        *(row[name] or "" for name in _PROVENANCE),
    ]
    return "| " + " | ".join(cells) + " |"
