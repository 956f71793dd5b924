"""The exact match that a model loses on corrupted images."""

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from captchabench.datasets import UNION
from captchabench.predictions.probes import CLEAN, TRANSFER, ProbeInfo
from captchabench.storage.tables import Table

# The name of the row with the mean over all corruptions.
MEAN = "mean"

SCHEMA = pl.Schema(
    {
        "dataset": pl.String(),
        "source": pl.String(),
        "model": pl.String(),
        "corruption": pl.String(),
        "strength": pl.Int64(),
        "n": pl.Int64(),
        "exact": pl.Float64(),
        "relative_drop": pl.Float64(),
    }
)
_ROW = ("dataset", "source", "model")
ROBUSTNESS = Table("metrics/robustness.csv", SCHEMA, "probes")


def robustness(probes: Sequence[tuple[ProbeInfo, pa.Table]]) -> pl.DataFrame:
    """One row per (dataset, source, model, corruption, strength), folds pooled, sorted; columns of SCHEMA.

    relative_drop is the lost share of the exact match on the same images unchanged. It is null if that was 0, and
    negative if it rose by chance. The row `clean` of strength 0 is for the unchanged images. The row `mean`, with null
    as strength, has the mean over all corruptions and strengths. `union` has rows for all images and for each member.
    """
    read = pl.concat([_readings(info, table) for info, table in probes])
    by_corruption = (
        read.group_by(*_ROW, "corruption", "strength")
        .agg(pl.len().cast(pl.Int64).alias("n"), pl.col("right").mean().alias("exact"))
        .with_columns(pl.col("exact").filter(pl.col("corruption") == CLEAN).first().over(_ROW).alias("clean"))
        .with_columns(
            pl.when(pl.col("clean") > 0).then(1 - pl.col("exact") / pl.col("clean")).alias("relative_drop"),
        )
        .sort(*_ROW, "corruption", "strength")
    )
    means = (
        by_corruption.filter(pl.col("corruption") != CLEAN)
        .group_by(*_ROW, maintain_order=True)
        .agg(
            pl.lit(MEAN).alias("corruption"),
            pl.lit(None, pl.Int64).alias("strength"),
            pl.col("n").first(),
            pl.col("exact", "relative_drop").mean(),
        )
    )
    return pl.concat([by_corruption.select(*SCHEMA), means.select(*SCHEMA)]).sort(*_ROW, "corruption", "strength")


def _readings(info: ProbeInfo, table: pa.Table) -> pl.DataFrame:
    """One row per image and probe; for `union` a second one under `union/member`."""
    rows = (
        pl.DataFrame(pl.from_arrow(table))
        .filter(pl.col("probe") != TRANSFER)
        .select(
            pl.lit(info.dataset).alias("dataset"),
            pl.lit(info.source).alias("source"),
            pl.lit(info.model).alias("model"),
            pl.col("probe").alias("corruption"),
            pl.col("strength").cast(pl.Int64),
            (pl.col("label") == pl.col("prediction")).alias("right"),
            pl.col("dataset").alias("member"),
        )
    )
    if info.dataset == UNION:
        rows = pl.concat([rows, rows.with_columns(pl.format("{}/{}", pl.lit(UNION), "member").alias("dataset"))])
    return rows.drop("member")
