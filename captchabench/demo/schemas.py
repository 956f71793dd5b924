"""What the HTTP interface answers, as its OpenAPI document describes it."""

from typing import Literal

from pydantic import BaseModel, Field

from captchabench.models.saved import About


class Model(BaseModel):
    """A trained model that can be asked to read."""

    name: str = Field(description="The name of its folder: dataset, model, held-out fold.")
    about: About = Field(description="What the model's own config.json says.")


class Limits(BaseModel):
    """What a request may bring."""

    upload: int = Field(description="Bytes of one request.")
    pixels: int = Field(description="Of one image.")
    images: int = Field(description="In one request.")


class Models(BaseModel):
    """The trained models, and what a request may ask of them."""

    models: list[Model]
    limits: Limits


class Alternative(BaseModel):
    """Another text that the image may show."""

    text: str
    probability: float


class Step(BaseModel):
    """One place that a model looked at, in pixels of the picture it was given, and what it took it for."""

    left: float
    top: float
    right: float
    bottom: float
    symbol: str = Field(description="Empty where it saw none: CTC's blank, an empty cell.")
    probability: float


class How(BaseModel):
    """How a model read an image."""

    kind: Literal["time steps", "characters", "cells", "none"]
    width: int
    height: int
    picture: str = Field(description="What the model was given, as a data URI of a PNG.")
    steps: list[Step]


class Reading(BaseModel):
    """What one model read of one image."""

    model: str
    text: str | None = Field(description="Null where the model itself failed.")
    confidence: float | None = Field(description="The probability of the whole text, 0 to 1.")
    alternatives: list[Alternative] = Field(description="The likeliest texts, best first; empty unless asked for.")
    how: How | None = Field(description="Null unless asked for.")
    error: str | None = Field(description="Why the model could not be used; null unless that is so.")


class Problem(BaseModel):
    """Why an image could not be read."""

    reason: str
    detail: str


class Result(BaseModel):
    """One image: readings, one a model in the order asked for, or the problem with it."""

    name: str = Field(description="The file's name, empty where it was sent without one.")
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
    image: str = Field(description="Where the image is: a path on this server.")


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
    """The errors of one model on its held-out fold, the worst or the surest first."""

    total: int
    images: int = Field(description="In the held-out fold.")
    misreadings: list[Misreading]


class Datasets(BaseModel):
    """The datasets whose images can be looked at, with their folds."""

    datasets: dict[str, list[int]]


class Health(BaseModel):
    """Whether the demo can read, and what it is busy with."""

    status: Literal["ok"]
    models: int
    waiting: int = Field(description="Images that wait to be read.")


class Trouble(BaseModel):
    """Why a request was refused, in one line that says what to do."""

    error: str
