"""Learning curves: exact match on the validation part during training."""

from typing import Any

import altair as alt
import polars as pl

from captchabench.report import charts
from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.sections.base import Section
from captchabench.report.tables import percent
from captchabench.scoring.curves import CURVES


def section(findings: Findings, figures: Figures) -> str:
    """One chart per dataset, one line per model and fold."""
    parts = []
    for ranking in findings.ranked:
        curves = findings.tables[CURVES].filter(pl.col("dataset") == ranking.dataset)
        if curves.is_empty():
            continue
        last = curves.sort("step").group_by("model", maintain_order=True).agg(pl.col("validation_exact").last())
        ends = ", ".join(f"{model} {percent(share)}" for model, share in last.sort("model").drop_nulls().rows())
        parts.append(
            figures.add(
                _chart(curves, findings.readers),
                f"{ranking.dataset}.",
                f"Learning curves on {ranking.dataset}. At the end: {ends or 'no validation'}.",
                ranking.source,
                dataset=ranking.dataset,
            )
        )
    # A model trained on union is in the chart of union, under its own name.
    trained = set(findings.tables[CURVES]["model"])
    intro = (
        "<p>Exact match during training, measured on images that were set aside from the training folds. A model "
        "without gradient steps is fitted once and has a single point.</p>"
    )
    return f'{intro}{charts.legend(findings.readers, trained)}<div class="grid three">{"".join(parts)}</div>'


def _chart(curves: pl.DataFrame, readers: list[str]) -> dict[str, Any]:
    tooltip = [
        alt.Tooltip("reader:N", title="model"),
        alt.Tooltip("fold:O"),
        alt.Tooltip("epoch:Q", format=".1f"),
        alt.Tooltip("validation_exact:Q", format=".2%", title="exact match"),
        alt.Tooltip("train_loss:Q", format=".4f", title="training loss"),
    ]
    shown = curves.rename({"model": "reader"}).select("reader", "fold", "epoch", "validation_exact", "train_loss")
    channels = charts.of_reader(readers)
    base = alt.Chart(alt.InlineData(values=shown.to_dicts())).encode(
        x=alt.X("epoch:Q", scale=alt.Scale(domainMin=0), axis=alt.Axis(title="epoch", format="~g", tickCount=5)),
        y=charts.share_axis("exact match", alt.Y, "validation_exact"),
        color=channels["color"],
        detail="fold:O",
    )
    # A line alone would not show the single point of a model that is fitted once.
    points = base.mark_point(filled=True, size=40, opacity=1).encode(shape=channels["shape"], tooltip=tooltip)
    return charts.finished(alt.layer(base.mark_line(), points), height=180)


SECTION = Section(30, "curves", "Learning", "Learning curves", section, tables=(CURVES,))
