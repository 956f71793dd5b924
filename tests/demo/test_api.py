"""The HTTP API: texts for images, and one clear line for every error."""

import asyncio
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from starlette.testclient import TestClient

from captchabench.demo.app import create_app
from captchabench.demo.schemas import Results
from captchabench.demo.service import Service

SVC, CRNN = "written-hog_svc-0", "written-crnn-0"
PNG = {"content-type": "image/png"}


def bomb(side: int) -> bytes:
    """A PNG of a few bytes whose header declares `side` pixels in width and height."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 10_000)) + chunk(b"IEND", b"")


def texts(response: Any) -> list[list[str]]:
    """The texts read: for each image a list with one text per model."""
    answer = Results.model_validate(response.json())
    return [[str(reading.text) for reading in result.readings] for result in answer.results]


def test_one_image_as_the_body(client: TestClient, trained: Any) -> None:
    response = client.post("/predict", params={"model": SVC}, content=trained.images[0], headers=PNG)
    assert response.status_code == 200
    assert texts(response) == [[trained.texts[SVC][0]]]
    (reading,) = response.json()["results"][0]["readings"]
    assert 0 <= reading["confidence"] <= 1
    assert reading["how"] is None


def test_a_form_of_many_images_for_several_models(client: TestClient, trained: Any) -> None:
    form = [("files", (f"{index}.png", image)) for index, image in enumerate(trained.images)]
    response = client.post("/predict", params={"model": [CRNN, SVC]}, files=form)
    assert response.status_code == 200
    assert texts(response) == [list(pair) for pair in zip(trained.texts[CRNN], trained.texts[SVC], strict=True)]
    assert [result["name"] for result in response.json()["results"]] == [name for _, (name, _) in form]
    # The images differ, so that swapped answers would be noticed.
    assert len(set(trained.texts[SVC])) > 30


def test_how_it_was_read_and_what_else_it_may_be(client: TestClient, trained: Any) -> None:
    asked: dict[str, Any] = {"model": [SVC, CRNN], "explain": True, "top_k": 3}
    response = client.post("/predict", params=asked, content=trained.images[0], headers=PNG)
    svc, crnn = Results.model_validate(response.json()).results[0].readings
    assert svc.how is not None
    assert crnn.how is not None
    assert svc.how.kind == "characters"
    assert "".join(step.symbol for step in svc.how.steps) == svc.text
    assert crnn.how.kind == "time steps"
    assert (crnn.how.steps[0].left, crnn.how.steps[-1].right) == (0, crnn.how.width)
    assert svc.how.picture.startswith("data:image/png;base64,")
    assert len(crnn.alternatives) == 3


def test_an_image_that_cannot_be_read_does_not_stop_the_others(client: TestClient, trained: Any) -> None:
    form = [("files", ("good.png", trained.images[0])), ("files", ("bad.png", trained.images[0][:-20]))]
    response = client.post("/predict", params={"model": SVC}, files=form)
    assert response.status_code == 200
    good, bad = response.json()["results"]
    assert good["readings"][0]["text"] == trained.texts[SVC][0]
    assert bad["problem"]["reason"] == "truncated"
    assert bad["readings"] == []


@pytest.mark.parametrize(
    ("image", "reason", "says"),
    [
        (bomb(30_000), "absurd_dimensions", "too large: 30000x30000; at most 4 million pixels"),
        (b"", "undecodable", "undecodable: an empty file"),
        (b"<svg/>", "undecodable", "this is not an image that can be read here (PNG, JPEG, GIF, "),
        (b"GIF89a", "undecodable", "this is not an image that can be read here (PNG, JPEG, GIF, "),
    ],
    ids=["bomb", "empty", "svg", "gif"],
)
def test_where_nothing_can_be_read_the_status_says_so(client: TestClient, image: bytes, reason: str, says: str) -> None:
    response = client.post("/predict", params={"model": SVC}, content=image, headers=PNG)
    assert response.status_code == 422
    problem = response.json()["results"][0]["problem"]
    assert problem["reason"] == reason
    assert problem["detail"].startswith(says)


@pytest.mark.parametrize(
    ("asked", "sent", "status", "says"),
    [
        ({}, {"content": b"", "headers": PNG}, 422, "model: Field required"),
        ({"model": "written-hog_svc-1"}, {"content": b"", "headers": PNG}, 422, "did you mean 'written-hog_svc-0'?"),
        ({"model": SVC, "top_k": 99}, {"content": b"", "headers": PNG}, 422, "top_k"),
        ({"model": SVC}, {"json": {"url": "http://example.org/a.png"}}, 415, "send an image"),
        ({"model": SVC}, {"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "form"),
        ({"model": SVC}, {"files": {"picture": b"x"}}, 422, "in the field `files`"),
        ({"model": SVC}, {"files": [("files", b"x")] * 65}, 413, "more than 64 images"),
        ({"model": SVC}, {"content": bytes((8 << 20) + 1), "headers": PNG}, 413, "more than 8 MiB"),
    ],
)
def test_what_is_asked_wrongly_is_answered_in_one_line(
    client: TestClient, asked: Any, sent: Any, status: int, says: str
) -> None:
    response = client.post("/predict", params=asked, **sent)
    assert response.status_code == status
    assert says in response.json()["error"]
    assert "\n" not in response.json()["error"]


def post(service: Service, pieces: Iterator[bytes], pause: float = 0.0) -> tuple[int, dict[bytes, bytes], int]:
    """Upload pieces without a content length. Returns status, headers and the number of pieces read."""
    taken = 0

    async def scenario() -> tuple[int, dict[bytes, bytes], int]:
        async def receive() -> dict[str, Any]:
            nonlocal taken
            await asyncio.sleep(pause)
            piece = next(pieces, None)
            taken += piece is not None
            return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/predict",
            "query_string": f"model={SVC}".encode(),
            "headers": [(b"content-type", b"image/png")],
        }
        async with service.running():
            await create_app(service)(scope, receive, send)
        return sent[0]["status"], dict(sent[0]["headers"]), taken

    return asyncio.run(scenario())


def test_an_upload_is_cut_off_as_soon_as_it_is_too_large(make_service: Callable[..., Service]) -> None:
    service = make_service(upload=10_000)
    status, headers, taken = post(service, iter([bytes(1000)] * 100))
    assert status == 413
    assert headers[b"connection"] == b"close"
    assert taken == 11
    assert (service.admission.requests, service.admission.held) == (0, 0)


def test_an_upload_that_takes_too_long_is_given_up(make_service: Callable[..., Service]) -> None:
    status, _, _ = post(make_service(seconds=0.05), iter([b"x"] * 100), pause=0.02)
    assert status == 408


@pytest.mark.parametrize("limits", [{"in_memory": 100}, {"work": 1000}])
def test_a_demo_that_is_busy_says_when_to_come_again(
    make_service: Callable[..., Service], trained: Any, limits: Any
) -> None:
    service = make_service(**limits)
    status, headers, _ = post(service, iter([trained.images[0]]))
    assert (status, headers[b"retry-after"]) == (503, b"1")
    assert (service.admission.requests, service.admission.held) == (0, 0)


def test_of_two_hundred_at_once_each_is_read_or_told_when_to_come_again(
    make_service: Callable[..., Service], trained: Any
) -> None:
    # Each image costs 200,000 plus its size in bytes.
    service = make_service(work=50 * 220_000)

    async def scenario() -> list[Any]:
        app = create_app(service)
        transport = httpx2.ASGITransport(app)
        async with service.running(), httpx2.AsyncClient(transport=transport, base_url="http://demo") as client:
            images = [trained.images[turn % len(trained.images)] for turn in range(200)]
            ask = [client.post("/predict", params={"model": SVC}, content=image, headers=PNG) for image in images]
            return list(await asyncio.gather(*ask))

    answers = asyncio.run(scenario())
    read = 0
    for turn, answer in enumerate(answers):
        if answer.status_code == 200:
            assert texts(answer) == [[trained.texts[SVC][turn % len(trained.images)]]]
            read += 1
        else:
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert read >= 50
    assert service.admission.requests == 0


def test_a_damaged_model_is_named_and_the_others_read(
    make_service: Callable[..., Service], trained: Any, tmp_path: Path
) -> None:
    for name in (SVC, CRNN):
        (tmp_path / name).mkdir()
        for file in (trained.data / "models" / name).iterdir():
            damaged = name == CRNN and file.name != "config.json"
            (tmp_path / name / file.name).write_bytes(file.read_bytes()[: -9 if damaged else None])
    with TestClient(create_app(make_service(folder=tmp_path))) as client:
        response = client.post("/predict", params={"model": [CRNN, SVC]}, content=trained.images[0], headers=PNG)
    crnn, svc = Results.model_validate(response.json()).results[0].readings
    assert crnn.text is None
    assert CRNN in str(crnn.error)
    assert "copy or train it again" in str(crnn.error)
    assert svc.text == trained.texts[SVC][0]


def test_models_say_what_their_own_files_say(client: TestClient, trained: Any) -> None:
    answer = client.get("/models").json()
    assert [model["name"] for model in answer["models"]] == [CRNN, SVC]
    about = answer["models"][0]["about"]
    assert (about["dataset"], about["fold"], about["alphabet"]) == ("written", 0, "0123456789")


def test_samples_are_those_of_the_shards_as_they_came(client: TestClient, trained: Any) -> None:
    assert client.get("/datasets").json() == {"datasets": {"written": [0, 1, 2, 3, 4]}}
    answer = client.get("/samples/written", params={"fold": 0, "offset": 2, "limit": 3}).json()
    assert answer["total"] == len(trained.samples)
    assert [sample["label"] for sample in answer["samples"]] == list(trained.samples.labels[2:5])
    assert client.get(answer["samples"][0]["image"]).content == trained.images[2]
    for missing in ("/samples/other", "/samples/written/0", "/errors/other"):
        assert client.get(missing).status_code == 404


def test_errors_are_those_of_the_predictions(client: TestClient, trained: Any) -> None:
    # The untrained model misreads almost every image.
    read = zip(trained.samples.labels, trained.texts[CRNN], strict=True)
    wrong = [(label, text) for label, text in read if label != text]
    for surest in (False, True):
        answer = client.get(f"/errors/{CRNN}", params={"surest": surest, "limit": 100}).json()
        assert (answer["images"], answer["total"]) == (len(trained.samples), len(wrong))
        assert sorted((e["sample"]["label"], e["prediction"]) for e in answer["misreadings"]) == sorted(wrong)
        keys = [e["confidence"] if surest else e["edits"] for e in answer["misreadings"]]
        assert keys == sorted(keys, reverse=True)
    assert wrong


def test_labels_of_grids_are_written_as_their_models_write_them(make_service: Callable[..., Service]) -> None:
    service = make_service()
    names = ("bus", "cat", "hill", "sign", "stair", "tree", "boat", "car", "bike", "lamp")
    service.abouts = {CRNN: replace(service.abouts[CRNN], task="grid", class_names=names)}
    label = service.library.samples("written", 0, 0, 1)[1][0].label
    with TestClient(create_app(service)) as client:
        (sample,) = client.get("/samples/written", params={"fold": 0, "limit": 1}).json()["samples"]
    assert sample["label"] == ", ".join(names[int(symbol)] for symbol in label)


def test_health_and_metrics(client: TestClient, trained: Any) -> None:
    assert client.get("/healthz").json() == {"status": "ok", "models": 2, "waiting": 0}
    client.post("/predict", params={"model": CRNN}, content=trained.images[0], headers=PNG)
    client.get("/no/such/place")
    text = client.get("/metrics").text
    assert f'captchabench_readings_total{{model="{CRNN}"}}' in text
    assert 'captchabench_requests_total{route="/predict",status="200"}' in text
    assert "/no/such" not in text
    assert "captchabench_waiting_images 0.0" in text


def test_a_demo_whose_queue_has_stopped_is_not_healthy(make_service: Callable[..., Service]) -> None:
    # Without `with` the application, and so its queue, is not started.
    response = TestClient(create_app(make_service())).get("/healthz")
    assert response.status_code == 503


def test_every_answer_tells_browsers_to_load_nothing_from_elsewhere(client: TestClient) -> None:
    for path in ("/", "/static/page.js", "/static/page.css", "/docs", "/models", "/report", "/nowhere"):
        response = client.get(path)
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none';"), path
        assert ("unsafe" in policy) == (path == "/report"), path
        assert response.headers["x-content-type-options"] == "nosniff"
        assert "://" not in policy


def test_the_report_says_how_to_get_it(
    make_service: Callable[..., Service], tmp_path: Path, client: TestClient
) -> None:
    assert client.get("/report").text.startswith("<!doctype html>")
    service = make_service()
    service.report = tmp_path / "index.html"
    with TestClient(create_app(service)) as other:
        response = other.get("/report")
    assert response.status_code == 404
    assert "dvc repro report" in response.json()["error"]


@st.composite
def mutated(draw: st.DrawFn, images: list[bytes]) -> bytes:
    """An encoded image with bytes changed, removed or duplicated."""
    image = Image.open(io.BytesIO(draw(st.sampled_from(images))))
    mode = draw(st.sampled_from(["L", "RGB", "P", "1", "LA", "RGBA"]))
    kind = draw(st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"]))
    encoded = io.BytesIO()
    image.convert(mode if kind in ("PNG", "TIFF") else "RGB").save(encoded, kind)
    data = bytearray(encoded.getvalue())
    for index, value in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=6)):
        data[index] = value
    cut = draw(st.integers(0, len(data)))
    return draw(st.sampled_from([bytes(data), bytes(data[:cut]), bytes(data[cut:]), bytes(data + data[:cut])]))


def test_whatever_becomes_of_an_image_it_is_read_or_refused(client: TestClient, trained: Any) -> None:
    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(mutated(trained.images[:5]), st.sampled_from(["image/png", "image/x", "application/octet-stream"]))
    def check(image: bytes, kind: str) -> None:
        response = client.post("/predict", params={"model": SVC}, content=image, headers={"content-type": kind})
        (result,) = Results.model_validate(response.json()).results
        assert response.status_code == (422 if result.problem else 200)
        assert bool(result.readings) != bool(result.problem)

    check()


def test_whatever_a_form_looks_like_it_is_no_fault_of_the_server(client: TestClient, trained: Any) -> None:
    names = st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace"))
    charsets = st.sampled_from([b"utf-8", b"utf-16", b"hex", b"rot13", b"idna", b"undefined", b"nonsense"])

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(names, names, charsets, st.binary(max_size=40), st.booleans())
    def check(field: bytes, name: bytes, charset: bytes, rest: bytes, whole: bool) -> None:
        field = b"files" if whole else field
        part = b'--b\r\ncontent-disposition: form-data; name="' + field + b'"; filename="' + name + b'"\r\n\r\n'
        body = part + trained.images[0] + b"\r\n--b" + (b"--\r\n" if whole else rest)
        kind = b"multipart/form-data; boundary=b; charset=" + charset
        response = client.post("/predict", params={"model": SVC}, content=body, headers={b"content-type": kind})
        assert response.status_code in (200, 400, 415, 422), response.text
        response.json()

    check()


@pytest.mark.parametrize("charset", ["undefined", '"undefined"', "utf-16", "unicode_escape", "raw_unicode_escape"])
def test_names_in_a_form_are_utf8_whatever_charset_it_says(client: TestClient, trained: Any, charset: str) -> None:
    # The boundary may be a quoted string with escapes.
    kind = f'multipart/form-data; charset={charset}; boundary="a\\"b"'
    part = '--a"b\r\ncontent-disposition: form-data; name="files"; filename="عکس.png"\r\n\r\n'.encode()
    body = part + trained.images[0] + b'\r\n--a"b--\r\n'
    response = client.post("/predict", params={"model": SVC}, content=body, headers={"content-type": kind})
    assert response.status_code == 200
    assert response.json()["results"][0]["name"] == "عکس.png"


def test_who_hangs_up_is_not_read_for(make_service: Callable[..., Service], trained: Any) -> None:
    service = make_service()
    cancelled = False

    async def scenario() -> None:
        messages = iter([{"type": "http.request", "body": trained.images[0]}, {"type": "http.disconnect"}])

        async def receive() -> dict[str, Any]:
            return next(messages)

        async def answer(*_: object) -> list[Any]:
            nonlocal cancelled
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled = True
                raise
            return []

        async def send(_: Any) -> None:
            pass

        vars(service.queue)["answer"] = answer
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/predict",
            "query_string": f"model={SVC}".encode(),
            "headers": [(b"content-type", b"image/png")],
        }
        await asyncio.wait_for(create_app(service)(scope, receive, send), 60)

    asyncio.run(scenario())
    assert cancelled
    assert service.admission.requests == 0
