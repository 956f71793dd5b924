"""Receives the encoded images of a request and stops as soon as a limit is exceeded."""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from captchabench.demo.admission import Ticket
from captchabench.demo.limits import DemoLimits
from captchabench.demo.refusals import Refused

FIELD = "files"
T = TypeVar("T")
# Bytes of part headers that a form may have for each image.
_FORM_OVERHEAD = 1024


@dataclass(frozen=True)
class Upload:
    """One encoded image and its file name, which may be empty."""

    name: str
    image: bytes


async def receive(request: Request, limits: DemoLimits, ticket: Ticket) -> list[Upload]:
    """The images of a request: its body, or the files of a form.

    Raises Refused if the images are too large (413), too many (413), too slow (408) or malformed (400, 415), and Busy
    if all requests together hold too many bytes.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    form = kind == "multipart/form-data"
    if not form and not kind.startswith("image/") and kind not in ("", "application/octet-stream"):
        raise Refused(415, f"send an image or a form with images as `{FIELD}`, not {kind[:100]!r}")
    try:
        async with asyncio.timeout(limits.seconds):
            if form:
                return await _read_form(request, limits, ticket)
            return [Upload("", b"".join([chunk async for chunk in _limited(request, limits.upload, ticket)]))]
    except TimeoutError:
        raise Refused(408, f"the upload took longer than {limits.seconds:g} s", close=True) from None
    except ClientDisconnect:
        raise Refused(400, "the upload ended early", close=True) from None


async def unless_disconnected(request: Request, answering: Coroutine[Any, Any, T]) -> T:
    """The result of `answering`. If the client disconnects first, cancel it and raise Refused.

    The body of the request must have been read.
    """
    answer = asyncio.create_task(answering)
    disconnect = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((answer, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if answer.done() or disconnect.result()["type"] != "http.disconnect":
            return await answer
        raise Refused(400, "the client disconnected", close=True)
    finally:
        for task in (answer, disconnect):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await disconnect


async def _read_form(request: Request, limits: DemoLimits, ticket: Ticket) -> list[Upload]:
    max_bytes = limits.upload + limits.images * _FORM_OVERHEAD
    parser = MultiPartParser(
        _form_headers(request),
        _limited(request, max_bytes, ticket),
        max_files=limits.images,
        max_fields=16,
        max_part_size=4096,
    )
    # Kept in memory, which is limited already; a temporary file would only be slower.
    parser.spool_max_size = limits.upload
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if error.message.startswith("Too many files"):
            raise Refused(413, f"more than {limits.images} images; send them in several requests", close=True) from None
        raise Refused(400, f"the form cannot be read: {error.message}", close=True) from None
    try:
        files = [(name, file) for name, file in form.multi_items() if isinstance(file, UploadFile)]
        if not files or any(name != FIELD for name, _ in files):
            raise Refused(422, f"the form must have its images in the field `{FIELD}`, and no other files")
        return [Upload(file.filename or "", await file.read()) for _, file in files]
    finally:
        await form.close()


def _form_headers(request: Request) -> Headers:
    """The content type of a form with its boundary alone: without a charset, file names are decoded as UTF-8.

    The parser would accept any Python codec as the charset, and some of them fail on every name. No browser sends one
    (RFC 7578, 5.1.2).
    """
    _, parameters = parse_options_header(request.headers["content-type"])
    kind = "multipart/form-data"
    if (boundary := parameters.get(b"boundary")) is not None:
        quoted = boundary.decode("latin-1").replace("\\", "\\\\").replace('"', '\\"')
        kind += f'; boundary="{quoted}"'
    return Headers({"content-type": kind})


async def _limited(request: Request, max_bytes: int, ticket: Ticket) -> AsyncGenerator[bytes, None]:
    """The body in chunks. Raises Refused once it exceeds `max_bytes`, at the start if the declared length does."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        # The server reads and discards the rest, so that the client receives the answer, unless the rest is too long.
        raise Refused(413, _too_large(max_bytes), close=int(declared) > 8 * max_bytes)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > max_bytes:
            raise Refused(413, _too_large(max_bytes), close=True)
        ticket.add_bytes(len(chunk))
        yield chunk


def _too_large(max_bytes: int) -> str:
    if max_bytes >> 20:
        return f"more than {max_bytes >> 20} MiB; send fewer or smaller images"
    return f"more than {max_bytes} bytes"
