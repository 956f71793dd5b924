"""Decodes large images in a separate process with low priority.

A file of a few kilobytes can hold millions of pixels, which take a tenth of a second to decode. Small images are not
delayed by that.
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

from captchabench.demo.reading import Rejection, Stopped, decode_or_reject
from captchabench.inference.images import DEFAULT_LIMITS

# The time limit for one image: valid ones take a second at most.
_TIMEOUT_SECONDS = 30.0
# Scheduled with a tenth of the weight of the other processes when all compete for a core.
_NICENESS = 10


class Decoder:
    """Decodes images one after the other. The process is started for the first one."""

    def __init__(self, max_pixels: int, timeout: float = _TIMEOUT_SECONDS) -> None:
        self._max_pixels = max_pixels
        self._timeout = timeout
        self._lock = threading.Lock()
        self._process: BaseProcess | None = None
        self._closed = False

    def decode(self, image: bytes) -> NDArray[np.uint8] | Rejection:
        """The image as [H, W] uint8 grey, or why it cannot be read.

        Blocks, so call it from a thread. Raises Stopped if the process died or was killed because it took too long.
        """
        with self._lock:
            if self._process is None or not self._process.is_alive():
                self._start()
            try:
                self._connection.send_bytes(image)
                if not self._connection.poll(self._timeout):
                    raise EOFError
                decoded: NDArray[np.uint8] | Rejection = self._connection.recv()
                return decoded
            except (EOFError, OSError):
                self._kill()
                raise Stopped from None

    def close(self) -> None:
        """Kill the process, even while it decodes."""
        self._closed = True
        self._kill()

    def _start(self) -> None:
        if self._closed:
            raise Stopped
        context = multiprocessing.get_context("spawn")
        self._connection, child_connection = context.Pipe()
        self._process = context.Process(target=_work, args=(child_connection, self._max_pixels), daemon=True)
        self._process.start()
        # Closed here, so that the end of the process closes the connection.
        child_connection.close()

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()


def _work(connection: Connection, max_pixels: int) -> None:
    """The main loop of the process. It ends when the server closes the connection."""
    # Ctrl-C signals the whole process group; the server stops this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    cv2.setNumThreads(1)
    limits = replace(DEFAULT_LIMITS, pixels=max_pixels)
    with suppress(EOFError, OSError):
        while True:
            connection.send(decode_or_reject(connection.recv_bytes(), limits))
