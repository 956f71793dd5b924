"""What the HTTP interface answers, as its OpenAPI document describes it."""

from typing import Literal

from pydantic import BaseModel, Field

from captchabench.models.saved import About


class Model(BaseModel):
    """A trained model that can be asked to read."""

    name: str = Field(description="The name of its folder: dataset, model, held-out fold.")
    about: About = Field(description="What the model's own config.json says.")


class Limits(BaseModel):
    """The most that a request may bring."""

    upload: int = Field(description="Bytes of one request.")
    pixels: int = Field(description="Pixels of one image.")
    side: int = Field(description="Pixels of an image's longer side.")
    images: int = Field(description="Images in one request.")


class Models(BaseModel):
    """The trained models, and the limits of a request."""

    models: list[Model]
    limits: Limits


class Alternative(BaseModel):
    """A text that the image may show, and how probable it is."""

    text: str
    probability: float


class Step(BaseModel):
    """One place that a model looked at, in pixels of the picture it was given, and the symbol it read there."""

    left: float
    top: float
    right: float
    bottom: float
    symbol: str = Field(description="Empty where the model read none: CTC's blank, an empty cell.")
    probability: float


class How(BaseModel):
    """How a model read an image."""

    kind: Literal["time steps", "characters", "cells", "none"]
    width: int
    height: int
    picture: str = Field(description="The picture that the model was given, as a data URI of a PNG.")
    steps: list[Step]


class Reading(BaseModel):
    """What one model read of one image."""

    model: str
    text: str | None = Field(description="Null where the model failed.")
    confidence: float | None = Field(description="The probability of the whole text, 0 to 1.")
    alternatives: list[Alternative] = Field(description="The likeliest texts, best first; empty where `top_k` is 1.")
    how: How | None = Field(description="How the model read it; null unless `explain` is true.")
    error: str | None = Field(description="Why the model failed; null where it did not.")


class Problem(BaseModel):
    """Why an image could not be read."""

    reason: str = Field(description="One word of a fixed list, for programs: undecodable, truncated and so on.")
    detail: str = Field(description="The reason in words, for people.")


class Result(BaseModel):
    """One image: its readings, one a model in the order asked for, or why it could not be read."""

    name: str = Field(description="The file's name; empty where it came without one.")
    readings: list[Reading]
    problem: Problem | None = Field(description="Null where the image was read.")


class Results(BaseModel):
    """The images of a request, in its order."""

    results: list[Result]


class Sample(BaseModel):
    """An image of a dataset whose label is known."""

    sample_id: str
    dataset: str
    label: str
    fold: int
    image: str = Field(description="The path of the image on this server.")


class Samples(BaseModel):
    """Some of a dataset's images, sorted by id."""

    total: int
    samples: list[Sample]


class Misreading(BaseModel):
    """An image of the held-out fold that a model read wrong."""

    sample: Sample
    prediction: str
    confidence: float
    edits: int = Field(description="Edit distance between label and prediction.")


class Misreadings(BaseModel):
    """What one model misread of its held-out fold, the worst or the most certain first."""

    total: int
    images: int = Field(description="Images in the held-out fold.")
    misreadings: list[Misreading]


class Datasets(BaseModel):
    """The datasets whose images can be looked at, with their folds."""

    datasets: dict[str, list[int]]


class Health(BaseModel):
    """Whether the demo reads images, and how many wait."""

    status: Literal["ok"]
    models: int
    waiting: int = Field(description="Images that wait to be read.")


class Trouble(BaseModel):
    """Why a request was refused, in one line that says what to do."""

    error: str
