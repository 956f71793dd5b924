"""The process that reads: a bad model does not affect the others."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from captchabench.demo.reading import Job, Reader, Rejection, Stopped
from captchabench.inference.loaded import load_recogniser
from captchabench.models import build_recogniser
from captchabench.samples.shards import Samples

PNG = cv2.imencode(".png", np.zeros((32, 100), np.uint8))[1].tobytes()


class HangingFolder:
    """A model folder whose path never resolves, so that loading it hangs."""

    def __fspath__(self) -> str:
        while True:
            time.sleep(1)


@pytest.fixture
def folders(make_samples: Callable[..., Samples], tmp_path: Path) -> dict[str, Any]:
    samples = make_samples(4)
    model = build_recogniser("dummy", samples.info.spec, {})
    model.fit(samples, samples, seed=0)
    model.save(tmp_path, samples.info, 0)
    return {"hanging": HangingFolder(), "sound": tmp_path}


async def ask(reader: Reader, *models: str) -> dict[str, tuple[Any, Any]]:
    """The text and the error of each model for one image."""
    (answer,) = await reader.read([Job(PNG, models)])
    assert not isinstance(answer, Rejection)
    return {reading["model"]: (reading["text"], reading["error"]) for reading in answer}


@pytest.mark.timeout(300)
def test_a_model_that_takes_for_ever_is_left_out_and_the_others_read_on(folders: dict[str, Any]) -> None:
    async def visit() -> None:
        reader = Reader(folders, 10_000, timeout=3.0)
        try:
            # Both batches are with the process when it is ended.
            stuck = await asyncio.gather(ask(reader, "sound", "hanging"), ask(reader, "sound"), return_exceptions=True)
            assert [type(one) for one in stuck] == [Stopped, Stopped]
            answers = [await ask(reader, "hanging", "sound") for _ in range(2)]
        finally:
            reader.close()
        for answer in answers:
            assert answer["hanging"][0] is None
            assert "hanging: took more than 3 s and is disabled" in answer["hanging"][1]
            assert answer["sound"][0]

    asyncio.run(visit())


@pytest.mark.timeout(300)
def test_the_end_does_not_wait_for_a_batch_that_never_ends(folders: dict[str, Any]) -> None:
    # Processes of other tests.
    before = set(psutil.Process().children())

    async def visit() -> list[psutil.Process]:
        reader = Reader(folders, 10_000)
        await reader.warm()
        reading = asyncio.create_task(ask(reader, "hanging"))
        while reader._activity[0] != 0:
            await asyncio.sleep(0.01)
        new = set(psutil.Process().children()) - before
        started = [child for child in new if "--multiprocessing-fork" in child.cmdline()]
        assert started
        reading.cancel()
        reader.close()
        return started

    _, alive = psutil.wait_procs(asyncio.run(visit()), timeout=60)
    assert not alive


def test_a_fault_that_one_model_brings_to_light_is_its_own(
    folders: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from captchabench.demo import reading as module

    def load(path: Any) -> Any:
        if isinstance(path, HangingFolder):
            raise MemoryError
        return load_recogniser(path)

    monkeypatch.setattr(module, "load_recogniser", load)
    reader = Reader(folders, 10_000, lambda: ThreadPoolExecutor(1))
    answer = asyncio.run(ask(reader, "hanging", "sound"))
    reader.close()
    assert answer["hanging"] == (None, "hanging: failed; the terminal says why")
    assert answer["sound"][0]
