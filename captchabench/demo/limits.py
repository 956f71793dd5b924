"""How much the demo takes on at a time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DemoLimits:
    """What is refused, and when.

    upload: bytes of one request. pixels: of one image. images: in one request. work: what the images that are not read
    yet cost, as cost.py counts, of all requests. in_memory: bytes of all their uploads together. seconds: the body of
    a request may take to arrive.
    """

    upload: int = 8 << 20
    pixels: int = 4_000_000
    images: int = 64
    work: int = 6_000_000_000
    in_memory: int = 256 << 20
    seconds: float = 20.0


@dataclass(frozen=True)
class ConnectionLimits:
    """What is cut off before it is a request, or once it is answered.

    connections: at once. each: of one address other than this machine's. head: bytes of a request that are not its
    body. headers: how many. head_seconds: until the head is whole. body_seconds: until the rest is, which is more than
    DemoLimits.seconds, since that is answered with more words. body: bytes. answer_seconds: until some of an answer is
    taken.
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
    """How images of several requests are read together.

    At most `size`, and `cost` as cost.py counts (one image may be more); none kept back longer than `seconds`.
    """

    size: int = 128
    cost: int = 16_000_000
    seconds: float = 0.002
