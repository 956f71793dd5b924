"""Large images are decoded apart: in a process of their own, which gets what time the others leave.

A few kilobytes can hold millions of pixels, which take a tenth of a second. Whoever sends a small picture meanwhile
does not wait for that.
"""

import multiprocessing
import os
import signal
import threading
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import cv2
import numpy as np
from numpy.typing import NDArray

from captchabench.demo.reading import Rejection, Stopped
from captchabench.inference.images import DEFAULT_LIMITS, Unreadable, decode

# Of one image: sound ones take a second at most.
_PATIENCE_SECONDS = 30.0
# A tenth of the weight of other processes, where all of them want a core.
_NICENESS = 10


class Decoder:
    """Decodes one image after the other. The process is started for the first."""

    def __init__(self, max_pixels: int, patience: float = _PATIENCE_SECONDS) -> None:
        self._max_pixels = max_pixels
        self._patience = patience
        self._lock = threading.Lock()
        self._process: BaseProcess | None = None
        self._closed = False

    def decode(self, image: bytes) -> NDArray[np.uint8] | Rejection:
        """The image as [H, W] uint8 grey, or why it cannot be read.

        Raises Stopped if the process died over it, or was ended because it took too long. For threads: it waits.
        """
        with self._lock:
            if self._process is None or not self._process.is_alive():
                self._start()
            try:
                self._connection.send_bytes(image)
                if not self._connection.poll(self._patience):
                    raise EOFError
                decoded: NDArray[np.uint8] | Rejection = self._connection.recv()
                return decoded
            except (EOFError, OSError):
                self._end()
                raise Stopped from None

    def close(self) -> None:
        """End the process, whatever it is at."""
        self._closed = True
        self._end()

    def _start(self) -> None:
        if self._closed:
            raise Stopped
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, self._max_pixels), daemon=True)
        self._process.start()
        # Its end is seen here only where nobody else holds the other end.
        other.close()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()


def _work(connection: Connection, max_pixels: int) -> None:
    """What the process does: until the server ends, from whose end of the connection nothing comes then."""
    # Ctrl-C reaches the whole group; the server says when to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    cv2.setNumThreads(1)
    limits = replace(DEFAULT_LIMITS, pixels=max_pixels)
    with suppress(EOFError, OSError):
        while True:
            image = connection.recv_bytes()
            decoded: NDArray[np.uint8] | Rejection
            try:
                decoded = decode(image, limits)
            except Unreadable as error:
                decoded = Rejection(str(error.reason), error.detail)
            connection.send(decoded)
