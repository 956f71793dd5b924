"""Labels that are probably wrong, for a person to look at, found by what models read that never saw the image.

After confident learning (Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
JAIR 2021). An image's label is suspected when models, trained without the image, give another text more probability;
images are ranked by the normalised margin, the probability of that text less the label's. Two things differ. A whole
word is the class, and hardly any word comes twice: so there are no thresholds by class, and no joint counts of
given and true classes. And a prediction knows the probability of one text, of the label only where a CTC loss stands
beside it: for other models, all that the reading leaves over is granted to the label.
"""

from collections.abc import Mapping, Sequence

import polars as pl
import pyarrow as pa

from captchabench.predictions.held_out import PredictionInfo
from captchabench.samples.shards import tile_names
from captchabench.storage.tables import Table

LISTED = 150
# Below this margin images are hard to read rather than wrongly labelled.
_LEAST = 0.5

SCHEMA = pl.Schema(
    {
        "dataset": pl.String(),
        "source": pl.String(),
        "sample_id": pl.String(),
        "name": pl.String(),
        "label": pl.String(),
        "reading": pl.String(),
        "score": pl.Float64(),
        "models": pl.String(),
    }
)
_IMAGE = ("dataset", "source", "sample_id", "label")
SUSPECTS = Table("metrics/suspects.csv", SCHEMA, "suspects")


def suspects(
    predictions: Sequence[tuple[PredictionInfo, pa.Table]], names: Mapping[str, Mapping[str, str]]
) -> pl.DataFrame:
    """The `LISTED` likeliest label errors of each dataset, worst first; columns of SCHEMA.

    predictions: of all models and folds. names: dataset -> sample_id -> the image's name. Probabilities are averaged
    over the models that read an image, weighted by their exact match on the dataset. score: the margin, from 0.5
    to 1. models: those that read `reading`; one trained on a union goes by "union/" and its name. Of a grid, name,
    label and reading are those of the tiles that are contradicted, with commas between.
    """
    read = pl.concat([_readings(info, table) for info, table in predictions])
    read = read.with_columns(pl.col("right").mean().over("dataset", "model").alias("weight"))
    total = pl.col("weight").sum().over("dataset", "sample_id")
    read = read.with_columns(pl.when(total > 0).then(pl.col("weight") / total).otherwise(0.0).alias("weight"))
    labels = read.group_by(*_IMAGE).agg((pl.col("weight") * pl.col("of_label")).sum().alias("of_label"))
    rivals = (
        read.filter(~pl.col("right"))
        .group_by(*_IMAGE, "reading")
        .agg(
            (pl.col("weight") * pl.col("confidence")).sum().alias("of_reading"),
            pl.col("model").unique().sort().str.join(" ").alias("models"),
        )
    )
    found = (
        rivals.join(labels, on=_IMAGE)
        # Rounded, so that the order of a sum cannot change that of the list.
        .with_columns((pl.col("of_reading") - pl.col("of_label")).round(6).alias("score"))
        .filter(pl.col("score") >= _LEAST)
        .sort("dataset", "score", "sample_id", "reading", descending=[False, True, False, False])
        .unique(["dataset", "sample_id"], keep="first", maintain_order=True)
        .group_by("dataset", maintain_order=True)
        .head(LISTED)
    )
    classes = {info.dataset: dict(zip(info.alphabet, info.class_names, strict=False)) for info, _ in predictions}
    said = []
    for dataset, sample_id, label, reading in found.select("dataset", "sample_id", "label", "reading").iter_rows():
        name = names[dataset][sample_id]
        said.append(_tiles(name, label, reading, of) if (of := classes.get(dataset)) else (name, label, reading))
    shown = pl.DataFrame(said, {key: pl.String() for key in ("name", "label", "reading")}, orient="row")
    return found.with_columns(shown.get_columns()).select(*SCHEMA)


def _tiles(name: str, label: str, reading: str, classes: Mapping[str, str]) -> tuple[str, ...]:
    """Name, label and reading of a grid's tiles that were not read as they are labelled."""
    apart = [tile for tile in zip(tile_names(name), label, reading, strict=True) if tile[1] != tile[2]]
    return (
        ", ".join(called for called, _, _ in apart),
        ", ".join(classes[symbol] for _, symbol, _ in apart),
        ", ".join(classes[symbol] for _, _, symbol in apart),
    )


def _readings(info: PredictionInfo, table: pa.Table) -> pl.DataFrame:
    """One row an image read: whether right, and the probabilities of the reading and of the label."""
    right = pl.col("label") == pl.col("prediction")
    confidence = pl.col("confidence").cast(pl.Float64).clip(0, 1)
    likelihood = (-pl.col("ctc_loss").cast(pl.Float64)).exp()
    return pl.DataFrame(pl.from_arrow(table)).select(
        "dataset",
        pl.lit(info.source).alias("source"),
        "sample_id",
        "label",
        # Within a union the images' own dataset differs from the one trained on.
        pl.when(pl.col("dataset") == info.dataset)
        .then(pl.lit(info.model))
        .otherwise(pl.lit(f"{info.dataset}/{info.model}"))
        .alias("model"),
        pl.col("prediction").alias("reading"),
        right.alias("right"),
        confidence.alias("confidence"),
        pl.when(right).then(confidence).otherwise(pl.min_horizontal(likelihood, 1 - confidence)).alias("of_label"),
    )
