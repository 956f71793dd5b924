"""metrics/leaderboard.md: the leaderboard as Markdown, for a repository browser."""

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


def markdown(board: pl.DataFrame) -> str:
    """One table per dataset with the best exact match first and in bold, then notes on the columns.

    There are no times, which differ from run to run: this file is to change only if results do.
    """
    lines = ["# Leaderboard", ""]
    for ranking in rankings(board):
        lines += [f"## {ranking.heading}", "", _scope(ranking), ""]
        titles = _COLUMNS | (_OF_GRIDS if ranking.grids else {})
        lines += ["| model | exact | 95 % | " + " | ".join([*list(titles.values())[1:], *_PROVENANCE]) + " |"]
        lines += ["|---|" + "--:|" * (len(_COLUMNS) + 1) + "---|" * len(_PROVENANCE)]
        lines += [_line(row, row["reader"] in ranking.best, ranking.grids) for row in ranking.rows]
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
        "- **95 %**: Wilson interval of exact, in per cent, over all images shown.",
        "",
        "All columns, and the times, are in `leaderboard.csv`.",
        "",
    ]
    return "\n".join(lines)


def _scope(ranking: Ranking) -> str:
    folds = max(row["folds"] for row in ranking.rows)
    return f"Version {ranking.version}, {ranking.images} held out, {folds_note(folds)}."


def _line(row: dict[str, Any], best: bool, grids: bool) -> str:
    mark = "**" if best else ""
    cells = [
        f"{mark}{row['reader']}{mark}",
        f"{mark}{percent(row['exact'])}{mark}",
        interval(row),
        percent(row["selection"] if grids else row["exact_folded"]),
        percent(row["cer"]),
        percent(row["char_accuracy"]),
        "" if grids else percent(row["position_accuracy"]),
        f"{row['f1']:.3f}",
        f"{row['ece']:.3f}",
        f"{row['parameters']:,}",
        *(row[name] or "" for name in _PROVENANCE),
    ]
    return "| " + " | ".join(cells) + " |"
