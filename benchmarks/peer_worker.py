"""Reads images with another project's recogniser. `benchmarks/peers.py` starts it in that project's own environment.

    python peer_worker.py PEER

It writes one JSON line with the version and the size of the weights. Then it reads one JSON line per image from
standard input, {"image": base64}, and answers each with one line: {"text", "seconds", "failed"}. The seconds are the
CPU time of the peer's own call, from encoded bytes to text. If the call raises an exception, the text is empty. This
file imports the standard library and the peer, nothing of captchabench.
"""

import base64
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

Read = Callable[[bytes], str]


class Name(StrEnum):
    """The peers, as they are named on the command line."""

    ddddocr = "ddddocr"
    ddddocr_beta = "ddddocr-beta"
    rapidocr = "rapidocr"


@dataclass(frozen=True)
class Peer:
    """How a peer is loaded.

    package: its name in the package index. title: what tables call it, after the package's version. weights: the file
    that it reads with, in the folder of `module`. load: from the imported module to a function that reads one image.
    """

    package: str
    title: str
    module: str
    weights: str
    load: Callable[[Any], Read]


def _load_ddddocr(module: Any) -> Read:
    read: Read = module.DdddOcr(show_ad=False).classification
    return read


def _load_ddddocr_beta(module: Any) -> Read:
    read: Read = module.DdddOcr(show_ad=False, beta=True).classification
    return read


def _load_rapidocr(module: Any) -> Read:
    engine = module.RapidOCR()

    def read(encoded: bytes) -> str:
        lines, _ = engine(encoded, use_det=False, use_cls=False, use_rec=True)
        return "".join(text for text, _ in lines or ())

    return read


PEERS = {
    Name.ddddocr: Peer("ddddocr", "", "ddddocr", "common_old.onnx", _load_ddddocr),
    Name.ddddocr_beta: Peer("ddddocr", ", beta", "ddddocr", "common.onnx", _load_ddddocr_beta),
    Name.rapidocr: Peer(
        "rapidocr-onnxruntime",
        "",
        "rapidocr_onnxruntime",
        "models/ch_PP-OCRv4_rec_infer.onnx",
        _load_rapidocr,
    ),
}


def use_one_thread() -> None:
    """Let ONNX Runtime and OpenCV compute on one thread. ddddocr has no option for that."""
    import_module("cv2").setNumThreads(1)
    runtime: Any = import_module("onnxruntime")
    create = runtime.InferenceSession

    def create_session(path: str, sess_options: Any = None, **others: Any) -> Any:
        options = sess_options or runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return create(path, options, **others)

    runtime.InferenceSession = create_session


def main(name: str) -> None:
    """Load the peer called `name` and read until standard input ends."""
    # What a peer prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    peer = PEERS[Name(name)]
    use_one_thread()
    module = import_module(peer.module)
    weights = Path(module.__file__ or "").parent / peer.weights
    read = peer.load(module)
    print(json.dumps({"version": version(peer.package), "bytes": weights.stat().st_size}), file=answers, flush=True)
    for line in sys.stdin:
        encoded = base64.b64decode(json.loads(line)["image"])
        failed = False
        started = time.process_time()
        try:
            text = read(encoded)
        # Any exception is a result: the peer cannot read this image.
        except Exception as error:
            text, failed = "", True
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        answer = {"text": text, "seconds": time.process_time() - started, "failed": failed}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
