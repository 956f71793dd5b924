"""How much the demo takes on at a time."""

from dataclasses import dataclass


@dataclass(frozen=True)
class DemoLimits:
    """What is refused, and when.

    upload: bytes of one request. pixels: of one image. images: in one request. waiting: images that are not read
    yet, of all requests. requests: those that are being received or answered. in_memory: bytes of their uploads
    together. seconds: a request may take to arrive.
    """

    upload: int = 8 << 20
    pixels: int = 4_000_000
    images: int = 64
    waiting: int = 1024
    requests: int = 512
    in_memory: int = 256 << 20
    seconds: float = 20.0


@dataclass(frozen=True)
class Batching:
    """How images of several requests are read together: at most `size`, none kept back longer than `seconds`."""

    size: int = 128
    seconds: float = 0.002
