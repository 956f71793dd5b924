"""The queue: large images are decoded separately, jobs for many models are split, answers come in order."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from captchabench.demo.app import create_app
from captchabench.demo.cost import cost_of_decoding, cost_of_reading
from captchabench.demo.decoder import Decoder
from captchabench.demo.limits import Batching
from captchabench.demo.queue import Queue
from captchabench.demo.reading import Answer, Job, Rejection, Stopped
from captchabench.demo.service import Service

SVC, CRNN = "written-hog_svc-0", "written-crnn-0"
MOST = 4_000_000


def encoded(kind: str, width: int, height: int, mode: str = "RGB", **options: Any) -> bytes:
    stream = BytesIO()
    Image.new(mode, (width, height)).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP", "lossless WEBP", "WEBP with alpha", "progressive JPEG"]
)
def test_the_cost_is_that_of_the_pixels_that_the_header_names(kind: str) -> None:
    options = {"lossless": kind.startswith("lossless"), "progressive": kind.startswith("progressive")}
    mode = "RGBA" if "alpha" in kind else "RGB"
    format_ = next(word for word in kind.split() if word.isupper())
    small, large = (encoded(format_, side, 30, mode, **options) for side in (100, 1000))
    costs = [cost_of_decoding(image, MOST) - len(image) for image in (small, large)]
    assert costs[1] == 10 * costs[0]
    assert 3000 <= costs[0] <= 60_000


def test_what_is_deep_or_has_many_scans_costs_more() -> None:
    flat, deep = (cv2.imencode(".png", np.zeros((300, 200, 4), kind))[1].tobytes() for kind in (np.uint8, np.uint16))
    assert cost_of_decoding(flat, MOST) - len(flat) == 300 * 200 * 4
    assert cost_of_decoding(deep, MOST) - len(deep) == 300 * 200 * 8
    jpeg = encoded("JPEG", 300, 200)
    scans = jpeg[:-2] + b"\xff\xda" * 50 + jpeg[-2:]
    assert cost_of_decoding(scans, MOST) > 10 * cost_of_decoding(jpeg, MOST)


def test_what_says_nothing_may_be_anything_and_what_says_too_much_is_not_decoded() -> None:
    assert cost_of_decoding(encoded("TIFF", 20, 30), MOST) > MOST
    assert cost_of_decoding(encoded("PPM", 20, 30), MOST) > MOST
    assert cost_of_decoding(b"no image", MOST) == 8
    for cut in range(30):
        for image in (encoded("PNG", 20, 30), encoded("JPEG", 20, 30), encoded("WEBP", 20, 30), encoded("GIF", 9, 9)):
            assert cost_of_decoding(image[:cut], MOST) >= cut
    assert cost_of_decoding(encoded("PNG", 3000, 3000), MOST) < 100_000


def test_models_and_explanations_cost() -> None:
    assert cost_of_reading(3, 1, False) * 3 == cost_of_reading(3, 5, True) == cost_of_reading(9, 1, False)


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    made = Decoder(MOST)
    yield made
    made.close()


def asked(queue: Queue, jobs: list[Job]) -> list[Answer]:
    async def scenario() -> list[Answer]:
        running = asyncio.create_task(queue.run())
        try:
            return await asyncio.wait_for(queue.answer(jobs, "client"), 300)
        finally:
            running.cancel()

    return asyncio.run(scenario())


def echo(batches: list[list[Job]]) -> Callable[[list[Job]], Awaitable[list[Answer]]]:
    """Fake models that read the shape of a decoded image, or the length of an encoded one, as its text."""

    async def read(jobs: list[Job]) -> list[Answer]:
        batches.append(jobs)
        return [
            Rejection("undecodable", "said so")
            if isinstance(job.image, bytes) and job.image == b"bad"
            else [{"model": model, "text": str(np.shape(job.image) or len(job.image))} for model in job.models]
            for job in jobs
        ]

    return read


def test_large_images_are_decoded_apart_and_come_back_in_their_places(decoder: Decoder) -> None:
    batches: list[list[Job]] = []
    queue = Queue(echo(batches), decoder, Batching(), MOST)
    small, large = encoded("PNG", 30, 20), encoded("PNG", 1500, 1000)
    images = [small, large, b"bad", large[:-9], large]
    answers = asked(queue, [Job(image, ("a", "b")) for image in images])
    texts = [answer.reason if isinstance(answer, Rejection) else answer[1]["text"] for answer in answers]
    assert texts == [str(len(small)), "(1000, 1500)", "undecodable", "truncated", "(1000, 1500)"]
    assert not any(
        job.image in (large, large[:-9]) for batch in batches for job in batch if isinstance(job.image, bytes)
    )
    assert len(queue) == 0


def test_many_models_take_several_turns(decoder: Decoder) -> None:
    batches: list[list[Job]] = []
    names = tuple("abcdefghij")
    answers = asked(Queue(echo(batches), decoder, Batching(size=1), MOST), [Job(b"x", names), Job(b"xy", ("k",))])
    named = [[reading["model"] for reading in answer] for answer in answers if not isinstance(answer, Rejection)]
    assert named == [list(names), ["k"]]
    assert [len(job.models) for batch in batches for job in batch] == [4, 4, 2, 1]


def test_a_process_that_decodes_too_long_is_ended_and_replaced() -> None:
    decoder = Decoder(MOST, timeout=0.0)
    with pytest.raises(Stopped):
        decoder.decode(encoded("PNG", 2000, 2000))
    decoder._timeout = 300
    assert not isinstance(grey := decoder.decode(encoded("PNG", 30, 20)), Rejection)
    assert grey.shape == (20, 30)
    decoder.close()
    with pytest.raises(Stopped):
        decoder.decode(encoded("PNG", 30, 20))


def test_a_large_image_is_read_as_it_would_be_otherwise(make_service: Callable[..., Service], trained: Any) -> None:
    grey = cv2.imdecode(np.frombuffer(trained.images[0], np.uint8), cv2.IMREAD_UNCHANGED)
    large = cv2.imencode(".png", cv2.resize(grey, None, fx=15, fy=15, interpolation=cv2.INTER_NEAREST))[1].tobytes()
    service = make_service()
    with TestClient(create_app(service)) as client:
        form = [("files", ("small", trained.images[0])), ("files", ("large", large))]
        results = client.post("/predict", params={"model": [CRNN, SVC]}, files=form).json()["results"]
        metrics = client.get("/metrics").text
    assert [reading["text"] for reading in results[1]["readings"]] == [
        reading["text"] for reading in results[0]["readings"]
    ]
    assert f'captchabench_readings_total{{model="{SVC}"}} 2.0' in metrics
