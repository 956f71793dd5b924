"""From a request to encoded images, cut off as soon as they are more than is allowed."""

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
# Beside its images a form has a few lines for each.
_FORM_OVERHEAD = 1024


@dataclass(frozen=True)
class Upload:
    """One encoded image and the name it came with, which may be empty."""

    name: str
    image: bytes


async def receive(request: Request, limits: DemoLimits, ticket: Ticket) -> list[Upload]:
    """The images that a request brings: its body, or the files of a form.

    Raises Refused where they are too large (413), too many (413), too slow (408) or not to be understood (400, 415),
    and Busy where all requests together hold too many bytes.
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


async def unless_gone(request: Request, answering: Coroutine[Any, Any, T]) -> T:
    """What `answering` gives. It is cancelled, and Refused raised, where the client hangs up before.

    The body of the request must have been read.
    """
    answer = asyncio.create_task(answering)
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if answer.done() or gone.result()["type"] != "http.disconnect":
            return await answer
        raise Refused(400, "the client hung up", close=True)
    finally:
        for task in (answer, gone):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await gone


async def _read_form(request: Request, limits: DemoLimits, ticket: Ticket) -> list[Upload]:
    most = limits.upload + limits.images * _FORM_OVERHEAD
    parser = MultiPartParser(
        _form_headers(request),
        _limited(request, most, ticket),
        max_files=limits.images,
        max_fields=16,
        max_part_size=4096,
    )
    # What may be held in memory at all is limited already; a file on disk would only be slower.
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
    """What says how a form is to be taken apart: its boundary alone, so that names are UTF-8.

    A charset would be any of Python's codecs, of which some fail on every name. No browser sends one (RFC 7578, 5.1.2).
    """
    _, parameters = parse_options_header(request.headers["content-type"])
    kind = "multipart/form-data"
    if (boundary := parameters.get(b"boundary")) is not None:
        quoted = boundary.decode("latin-1").replace("\\", "\\\\").replace('"', '\\"')
        kind += f'; boundary="{quoted}"'
    return Headers({"content-type": kind})


async def _limited(request: Request, most: int, ticket: Ticket) -> AsyncGenerator[bytes, None]:
    """The body in pieces; Refused as soon as it is larger than `most`, at best before any of it has come."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        # The server reads on without keeping it, so that the client hears the answer; but not for ever.
        raise Refused(413, _too_large(most), close=int(declared) > 8 * most)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > most:
            raise Refused(413, _too_large(most), close=True)
        ticket.pay(len(chunk))
        yield chunk


def _too_large(most: int) -> str:
    return f"more than {most >> 20} MiB; send fewer or smaller images" if most >> 20 else f"more than {most} bytes"
