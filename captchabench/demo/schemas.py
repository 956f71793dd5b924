"""The answers of the HTTP API, as its OpenAPI document describes them."""

from typing import Literal

from pydantic import BaseModel, Field

from captchabench.models.saved import About


class Model(BaseModel):
    """A trained model that can read images."""

    name: str = Field(description="The name of its folder: dataset, model, held-out fold.")
    about: About = Field(description="The metadata in the model's config.json.")


class Limits(BaseModel):
    """The limits on a request."""

    upload: int = Field(description="Bytes of one request.")
    pixels: int = Field(description="Pixels of one image.")
    side: int = Field(description="Pixels on an image's longer side.")
    images: int = Field(description="Images in one request.")


class Models(BaseModel):
    """The trained models, and the limits of a request."""

    models: list[Model]
    limits: Limits


class Alternative(BaseModel):
    """A text that the image may show, and its probability."""

    text: str
    probability: float


class Step(BaseModel):
    """One region that a model read, in pixels of its input image, and the symbol it read there."""

    left: float
    top: float
    right: float
    bottom: float
    symbol: str = Field(description="Empty if the model read none: a CTC blank or an empty cell.")
    probability: float


class How(BaseModel):
    """How a model read an image."""

    kind: Literal["time steps", "characters", "cells", "none"]
    width: int
    height: int
    picture: str = Field(description="The input image of the model, as a PNG in a data URI.")
    steps: list[Step]


class Reading(BaseModel):
    """The result of one model for one image."""

    model: str
    text: str | None = Field(description="Null if the model failed.")
    confidence: float | None = Field(description="The probability of the whole text, 0 to 1.")
    alternatives: list[Alternative] = Field(description="The most probable texts, best first; empty if `top_k` is 1.")
    how: How | None = Field(description="How the model read it; null unless `explain` is true.")
    error: str | None = Field(description="Why the model failed; null if it did not.")


class Problem(BaseModel):
    """Why an image could not be read."""

    reason: str = Field(description="A code from a fixed list: undecodable, truncated and so on.")
    detail: str = Field(description="An explanation for users.")


class Result(BaseModel):
    """One image: one reading per model in the requested order, or why it could not be read."""

    name: str = Field(description="The file name; empty if there was none.")
    readings: list[Reading]
    problem: Problem | None = Field(description="Null if the image was read.")


class Results(BaseModel):
    """The results for the images of a request, in order."""

    results: list[Result]


class Sample(BaseModel):
    """A labelled image of a dataset."""

    sample_id: str
    dataset: str
    label: str
    fold: int
    image: str = Field(description="The address of the image, relative to that of the page.")


class Samples(BaseModel):
    """A page of a dataset's images, sorted by id."""

    total: int
    samples: list[Sample]


class Misreading(BaseModel):
    """An image of the held-out fold that a model misread."""

    sample: Sample
    prediction: str
    confidence: float
    edits: int = Field(description="Edit distance between label and prediction.")


class Misreadings(BaseModel):
    """The images of its held-out fold that a model misread, sorted by edits or by confidence, largest first."""

    total: int
    images: int = Field(description="Images in the held-out fold.")
    misreadings: list[Misreading]


class Datasets(BaseModel):
    """The datasets whose images can be browsed, with their folds."""

    datasets: dict[str, list[int]]


class Health(BaseModel):
    """Whether the demo can read images, and how many are waiting."""

    status: Literal["ok"]
    models: int
    waiting: int = Field(description="Images that are waiting to be read.")


class Trouble(BaseModel):
    """Why a request was refused, in one line that says what to do."""

    error: str
