"""How exact match on the validation part rose while training."""

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
    """A chart a dataset, a line a model and fold."""
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
                f"{ranking.dataset}: exact match on the validation part of the training folds.",
                f"Learning curves on {ranking.dataset}. At the end: {ends or 'no validation'}.",
                ranking.source,
                dataset=ranking.dataset,
            )
        )
    return f'{charts.legend(findings.readers)}<div class="grid three">{"".join(parts)}</div>'


def _chart(curves: pl.DataFrame, readers: list[str]) -> dict[str, Any]:
    tooltip = [
        alt.Tooltip("reader:N"),
        alt.Tooltip("fold:O"),
        alt.Tooltip("epoch:Q", format=".1f"),
        alt.Tooltip("validation_exact:Q", format=".2%", title="exact"),
        alt.Tooltip("train_loss:Q", format=".4f"),
    ]
    shown = curves.rename({"model": "reader"}).select("reader", "fold", "epoch", "validation_exact", "train_loss")
    channels = charts.of_reader(readers)
    base = alt.Chart(alt.InlineData(values=shown.to_dicts())).encode(
        x=alt.X("epoch:Q", scale=alt.Scale(domainMin=0), axis=alt.Axis(title="epoch", format="~g", tickCount=5)),
        y=charts.share_axis("exact, validation", alt.Y, "validation_exact"),
        color=channels["color"],
        detail="fold:O",
    )
    # A model that is fitted in one go has one point, which a line alone would not show.
    points = base.mark_point(filled=True, size=40, opacity=1).encode(shape=channels["shape"], tooltip=tooltip)
    return charts.finished(alt.layer(base.mark_line(), points), height=180)


SECTION = Section(30, "curves", "Learning", "Learning curves", section, tables=(CURVES,))
