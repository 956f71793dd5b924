"""The JSON routes, used by the page and by other programs: predict, models, samples, health."""

import json
import time
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response

from captchabench.demo import schemas
from captchabench.demo.clients import client_of
from captchabench.demo.monitoring import CONTENT_TYPE
from captchabench.demo.reading import Job, Rejection
from captchabench.demo.refusals import Refused
from captchabench.demo.samples import LabelledSample
from captchabench.demo.service import Service
from captchabench.demo.uploads import FIELD, receive, unless_disconnected
from captchabench.normalize.images import MAX_SIDE
from captchabench.registry import did_you_mean

router = APIRouter()

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "required": [FIELD],
        "properties": {FIELD: {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}},
    }
}
_UPLOAD = {
    "required": True,
    "description": f"One image as the body, or a form with any number of images in the field `{FIELD}`.",
    "content": {"multipart/form-data": _FORM, "image/png": _BINARY, "image/jpeg": _BINARY, "image/*": _BINARY},
}
_MAGIC = ((b"\x89PNG", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"), (b"BM", "image/bmp"))


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": schemas.Trouble, "description": HTTPStatus(status).phrase} for status in statuses}


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


@router.post(
    "/predict",
    tags=["read"],
    summary="Read images",
    response_model=schemas.Results,
    responses={
        **_refusals(400, 403, 408, 413, 415, 503),
        422: {
            "model": schemas.Results | schemas.Trouble,
            "description": "No image could be read, with the reason for each; or a parameter is wrong.",
        },
    },
    openapi_extra={"requestBody": _UPLOAD},
)
async def predict(
    request: Request,
    model: Annotated[list[str], Query(min_length=1, max_length=64, description="The models to use; see /models.")],
    top_k: Annotated[int, Query(ge=1, le=10, description="How many alternatives to return; none if 1.")] = 1,
    explain: Annotated[
        bool, Query(description="Return how each model read the image: its time steps, characters or cells.")
    ] = False,
) -> Response:
    """Read images of text or grids of tiles."""
    service = _service(request)
    models = tuple(dict.fromkeys(model))
    for name in models:
        if name not in service.abouts:
            raise Refused(422, f"no model called {name[:100]!r}; {did_you_mean(name, service.abouts)}")
    started = time.perf_counter()
    client = client_of(request.client)
    with service.admission.enter(client) as ticket:
        uploads = await receive(request, service.limits, ticket)
        jobs = [Job(upload.image, models, top_k, explain) for upload in uploads]
        answers = await unless_disconnected(request, service.read(jobs, ticket))
    results: list[dict[str, Any]] = []
    for upload, answer in zip(uploads, answers, strict=True):
        if isinstance(answer, Rejection):
            problem = {"reason": answer.reason, "detail": answer.detail}
            results.append({"name": upload.name, "readings": [], "problem": problem})
        else:
            results.append({"name": upload.name, "readings": answer, "problem": None})
    none_read = all(result["problem"] for result in results)
    if not none_read:
        service.monitor.seconds.observe(time.perf_counter() - started)
    # Not validated against the schema for every answer, at thousands per second; a test checks it.
    content = json.dumps({"results": results}, allow_nan=False)
    return Response(content, 422 if none_read else 200, media_type="application/json")


@router.get("/models", tags=["read"], summary="The models that can read")
async def models(request: Request) -> schemas.Models:
    """The models, as their config files describe them, and the limits on a request."""
    service = _service(request)
    limits = service.limits
    return schemas.Models(
        models=[schemas.Model(name=name, about=about) for name, about in service.abouts.items()],
        limits=schemas.Limits(upload=limits.upload, pixels=limits.pixels, side=MAX_SIDE, images=limits.images),
    )


@router.get("/datasets", tags=["browse"], summary="The datasets", responses=_refusals(404))
def datasets(request: Request) -> schemas.Datasets:
    """The datasets whose images can be browsed, with their folds."""
    library = _service(request).library
    return schemas.Datasets(datasets={dataset: library.folds(dataset) for dataset in library.datasets})


_Offset = Annotated[int, Query(ge=0, le=10**9)]
_Limit = Annotated[int, Query(ge=1, le=100)]


@router.get("/samples/{dataset}", tags=["browse"], summary="Images of a dataset", responses=_refusals(404, 422))
def samples(
    request: Request,
    dataset: str,
    fold: Annotated[int | None, Query(ge=0, le=99, description="All folds unless given.")] = None,
    offset: _Offset = 0,
    limit: _Limit = 24,
) -> schemas.Samples:
    """Images of a dataset with their labels, sorted by id."""
    service = _service(request)
    try:
        total, labelled = service.library.samples(dataset, fold, offset, limit)
    except KeyError:
        raise Refused(404, f"no dataset called {dataset[:100]!r}; see /datasets") from None
    return schemas.Samples(total=total, samples=[_sample(service, sample) for sample in labelled])


@router.get(
    "/samples/{dataset}/{sample_id}",
    tags=["browse"],
    summary="One image",
    response_class=Response,
    responses={200: {"content": {"image/*": {}}}, **_refusals(404)},
)
def image(request: Request, dataset: str, sample_id: str) -> Response:
    """The original image of a sample; for a grid, the assembled image that models read."""
    try:
        encoded = _service(request).library.image(dataset, sample_id)
    except KeyError:
        raise Refused(404, "no such sample; see /samples/{dataset}") from None
    kinds = (kind for start, kind in _MAGIC if encoded.startswith(start))
    inner = {b"WEBP": "image/webp", b"avif": "image/avif"}
    kind = next(kinds, inner.get(encoded[8:12], "application/octet-stream"))
    return Response(encoded, media_type=kind, headers={"cache-control": "private, max-age=3600"})


@router.get("/errors/{model}", tags=["browse"], summary="What a model misread", responses=_refusals(404, 422))
def errors(
    request: Request,
    model: Annotated[str, Path(description="See /models.")],
    surest: Annotated[bool, Query(description="Sort by confidence instead of the number of edits.")] = False,
    offset: _Offset = 0,
    limit: _Limit = 24,
) -> schemas.Misreadings:
    """The images of its held-out fold that a model misread."""
    service = _service(request)
    if model not in service.abouts:
        raise Refused(404, f"no model called {model[:100]!r}; see /models")
    images, total, page = service.library.errors(model, surest, offset, limit)
    return schemas.Misreadings(
        total=total,
        images=images,
        misreadings=[
            schemas.Misreading(
                sample=_sample(service, error.sample),
                prediction=service.named(error.sample.dataset, error.prediction),
                confidence=error.confidence,
                edits=error.edits,
            )
            for error in page
        ],
    )


@router.get("/healthz", tags=["run"], summary="Health", responses=_refusals(503))
async def healthz(request: Request) -> schemas.Health:
    """Whether the demo can read images."""
    service = _service(request)
    if not service.alive:
        raise Refused(503, "the queue has stopped; restart the demo")
    return schemas.Health(status="ok", models=len(service.abouts), waiting=len(service.queue))


@router.get(
    "/metrics",
    tags=["run"],
    summary="Counters",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
async def metrics(request: Request) -> Response:
    """Counters in the Prometheus text format."""
    return Response(_service(request).monitor.text(), headers={"content-type": CONTENT_TYPE})


def _sample(service: Service, sample: LabelledSample) -> schemas.Sample:
    return schemas.Sample(
        sample_id=sample.sample_id,
        dataset=sample.dataset,
        label=service.named(sample.dataset, sample.label),
        fold=sample.fold,
        image=f"samples/{sample.dataset}/{sample.sample_id}",
    )
