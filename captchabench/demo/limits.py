"""The limits of the demo."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DemoLimits:
    """Limits on requests.

    upload: bytes of one request. pixels: of one image. images: in one request. work: the total cost of all images that
    are waiting, as cost.py counts it. in_memory: bytes of all uploads in memory. seconds: the time that the body of a
    request may take to arrive.
    """

    upload: int = 8 << 20
    pixels: int = 4_000_000
    images: int = 64
    work: int = 6_000_000_000
    in_memory: int = 256 << 20
    seconds: float = 20.0


@dataclass(frozen=True)
class ConnectionLimits:
    """Limits on connections, outside the handling of a request.

    connections: open at once. each: open at once per address other than loopback. head: bytes of a request outside its
    body. headers: their number. head_seconds: until the head is complete. body_seconds: until the body is complete;
    longer than DemoLimits.seconds, which has the better error message. body: bytes. answer_seconds: until the client
    reads some of an answer.
    """

    connections: int = 1000
    each: int = 200
    head: int = 64 << 10
    headers: int = 100
    head_seconds: float = 10.0
    body_seconds: float = 25.0
    body: int = 64 << 20
    answer_seconds: float = 20.0


@dataclass(frozen=True)
class Batching:
    """How images of several requests are combined into one batch.

    size: images per batch at most. cost: total cost at most, as cost.py counts it; a single image may exceed it.
    seconds: the longest that an image waits for others.
    """

    size: int = 128
    cost: int = 16_000_000
    seconds: float = 0.002
