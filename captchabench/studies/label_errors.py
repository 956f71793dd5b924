"""Labels that are probably wrong, found by comparing them with held-out predictions, for a person to check.

After confident learning (Northcutt, Jiang and Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels",
JAIR 2021). A label is suspect if models that were trained without the image give another text a higher probability.
Images are ranked by the normalised margin: the probability of that text minus the probability of the label.

Where several models read an image, their probabilities are averaged, and a lower margin is enough if more of them read
the other text than the label: models that err by themselves rarely agree on a text. docs/label_errors.md has precision
and recall of the list.

Two things differ from the paper. The class is a whole text, and few texts occur twice, so there are no thresholds by
class and no joint counts of given and true classes. A prediction has the probability of one text only. The label's
follows from the CTC loss; a model without one leaves the label everything that its prediction does not take.
"""

from collections.abc import Mapping, Sequence

import polars as pl
import pyarrow as pa

from captchabench.predictions.held_out import PredictionInfo
from captchabench.samples.shards import tile_names
from captchabench.storage.tables import Table

LISTED = 150
# With a lower margin an image is hard to read rather than wrongly labelled, unless models outvote the label.
_LEAST_MARGIN = 0.5
_LEAST_MARGIN_OUTVOTED = 0.2

SCHEMA = pl.Schema(
    {
        "dataset": pl.String(),
        "source": pl.String(),
        "sample_id": pl.String(),
        "name": pl.String(),
        "label": pl.String(),
        "reading": pl.String(),
        "rank": pl.Int64(),
        "margin": pl.Float64(),
        "agreeing": pl.Int64(),
        "readers": pl.Int64(),
        "models": pl.String(),
    }
)
_IMAGE = ("dataset", "source", "sample_id", "label")
SUSPECTS = Table("metrics/suspects.csv", SCHEMA, "suspects")


def suspects(
    predictions: Sequence[tuple[PredictionInfo, pa.Table]], names: Mapping[str, Mapping[str, str]]
) -> pl.DataFrame:
    """The `LISTED` most likely label errors of each dataset, worst first; columns of SCHEMA.

    predictions: of all models and folds. names: dataset -> sample_id -> the image's name. Probabilities are averaged
    over the models that read an image, weighted by their exact match on the dataset.

    Columns: rank is the place in the list of the dataset, from 1. margin, from 0.2 to 1, orders it; it is not the
    probability that the label is wrong. models are those that read `reading`, separated by spaces; a model
    trained on `union` is called "union/" and its name. agreeing is their number, readers that of all that read the
    image. For a grid, name, label and reading list the contradicted tiles,
    separated by commas.
    """
    read = pl.concat([_readings(info, table) for info, table in predictions])
    read = read.with_columns(pl.col("right").mean().over("dataset", "model").alias("weight"))
    total = pl.col("weight").sum().over("dataset", "sample_id")
    read = read.with_columns(pl.when(total > 0).then(pl.col("weight") / total).otherwise(0.0).alias("weight"))
    labels = read.group_by(*_IMAGE).agg(
        (pl.col("weight") * pl.col("of_label")).sum().alias("of_label"),
        pl.col("model").filter("right").n_unique().cast(pl.Int64).alias("confirming"),
        pl.col("model").n_unique().cast(pl.Int64).alias("readers"),
    )
    rivals = (
        read.filter(~pl.col("right"))
        .group_by(*_IMAGE, "reading")
        .agg(
            (pl.col("weight") * pl.col("confidence")).sum().alias("of_reading"),
            pl.col("model").n_unique().cast(pl.Int64).alias("agreeing"),
            pl.col("model").unique().sort().str.join(" ").alias("models"),
        )
    )
    outvoted = (pl.col("agreeing") >= 2) & (pl.col("agreeing") > pl.col("confirming"))
    least = pl.when(outvoted).then(_LEAST_MARGIN_OUTVOTED).otherwise(_LEAST_MARGIN)
    ranked = (
        rivals.join(labels, on=_IMAGE)
        # Rounded, so that the order of summation cannot change the order of the list.
        .with_columns((pl.col("of_reading") - pl.col("of_label")).round(6).alias("margin"))
        .filter(pl.col("margin") >= least)
        .sort("dataset", "margin", "sample_id", "reading", descending=[False, True, False, False])
        .unique(["dataset", "sample_id"], keep="first", maintain_order=True)
        .group_by("dataset", maintain_order=True)
        .head(LISTED)
        .with_columns(pl.int_range(1, pl.len() + 1, dtype=pl.Int64).over("dataset").alias("rank"))
    )
    classes = {info.dataset: dict(zip(info.alphabet, info.class_names, strict=False)) for info, _ in predictions}
    rows = []
    for dataset, sample_id, label, reading in ranked.select("dataset", "sample_id", "label", "reading").iter_rows():
        name = names[dataset][sample_id]
        rows.append(_tiles(name, label, reading, of) if (of := classes.get(dataset)) else (name, label, reading))
    shown = pl.DataFrame(rows, {key: pl.String() for key in ("name", "label", "reading")}, orient="row")
    return ranked.with_columns(shown.get_columns()).select(*SCHEMA)


def _tiles(name: str, label: str, reading: str, classes: Mapping[str, str]) -> tuple[str, ...]:
    """Names, labels and readings of the tiles of a grid that were read differently from their labels."""
    differing = [tile for tile in zip(tile_names(name), label, reading, strict=True) if tile[1] != tile[2]]
    return (
        ", ".join(tile for tile, _, _ in differing),
        ", ".join(classes[symbol] for _, symbol, _ in differing),
        ", ".join(classes[symbol] for _, _, symbol in differing),
    )


def _readings(info: PredictionInfo, table: pa.Table) -> pl.DataFrame:
    """One row per image: whether it was read correctly, and the probabilities of the reading and of the label."""
    right = pl.col("label") == pl.col("prediction")
    confidence = pl.col("confidence").cast(pl.Float64).clip(0, 1)
    likelihood = (-pl.col("ctc_loss").cast(pl.Float64)).exp()
    return pl.DataFrame(pl.from_arrow(table)).select(
        "dataset",
        pl.lit(info.source).alias("source"),
        "sample_id",
        "label",
        # In a union the dataset of an image is a member, and the model was trained on all of them.
        pl.when(pl.col("dataset") == info.dataset)
        .then(pl.lit(info.model))
        .otherwise(pl.lit(f"{info.dataset}/{info.model}"))
        .alias("model"),
        pl.col("prediction").alias("reading"),
        right.alias("right"),
        confidence.alias("confidence"),
        pl.when(right).then(confidence).otherwise(pl.min_horizontal(likelihood, 1 - confidence)).alias("of_label"),
    )
