"""One training and its readings, in a process of its own: `python -m captchabench.own.trial`.

The first line of standard input is a `Spec` as JSON. Standard input stays open for as long as the parent lives; when it
ends, so does this process. Standard output has one JSON object a line: {"done": steps, "of": steps, "round": index}
about once a second, and at the end {"ended": ""} or {"ended": a message for the user}.
"""

import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from zlib import crc32

import numpy as np

from captchabench import __version__
from captchabench.cells.split import held_out
from captchabench.errors import InputError
from captchabench.models import build_recogniser
from captchabench.models.base import Recogniser
from captchabench.predictions.held_out import PredictionInfo, write_predictions
from captchabench.samples.shards import Samples, read_samples
from captchabench.storage.files import replacing_folder, write_json
from captchabench.studies.images_needed import hashed_order
from captchabench.training.checkpoints import Checkpoints

# Of the images that a model may learn from: to decide whether a longer schedule follows, or if none can, to satisfy
# `fit`, which needs a few.
_DECIDING, _MOST_DECIDING, _SPARED = 0.1, 100, 0.02
_SECONDS_BETWEEN_REPORTS = 0.5
# The code that learns. The rest of `own` decides what is learned, which the parameters and the samples say.
_CODE = ("models", "networks", "training", "own/trial.py")
PREDICTIONS, UNSEEN, RESULT = "predictions.parquet", "unseen.parquet", "result.json"
SCRATCH = "scratch"


@dataclass(frozen=True)
class Spec:
    """A training. name: unique in its run. folder: of the run, see `Run`. share: of the images outside the fold.

    parameters: of each schedule, in order. A later one follows only if the ones before misread validation images.
    seconds: about how long each takes. weights: the folder to save the model in, or "".
    """

    name: str
    folder: str
    dataset: str
    model: str
    parameters: tuple[Mapping[str, Any], ...]
    seconds: tuple[float, ...]
    fold: int
    share: float = 1.0
    weights: str = ""

    @property
    def result(self) -> Path:
        """The folder of the result: what it read of the held-out images, and RESULT."""
        return Path(self.folder) / "trials" / self.name

    @property
    def scratch(self) -> Path:
        """The folder of checkpoints, which is removed at the end."""
        return Path(self.folder) / SCRATCH / self.name


class _Reported(Checkpoints):
    """Checkpoints of a training that report each of its steps. `due` is asked once after every step."""

    def __init__(self, folder: Path, steps: int, round_: int, out: IO[str]) -> None:
        super().__init__(folder)
        self._done, self._steps, self._round, self._out = 0, steps, round_, out
        self._reported = 0.0

    def due(self) -> bool:
        self._done += 1
        if time.monotonic() - self._reported > _SECONDS_BETWEEN_REPORTS:
            self._reported = time.monotonic()
            _say(self._out, done=self._done, of=self._steps, round=self._round)
        return super().due()

    def resume(self, step: int, seconds: float) -> None:
        super().resume(step, seconds)
        self._done = step


def main() -> None:
    """Run the trial that standard input asks for."""
    out = sys.stdout
    values = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    spec = Spec(**{**values, "parameters": tuple(values["parameters"]), "seconds": tuple(values["seconds"])})
    with redirect_stdout(sys.stderr):
        try:
            run_trial(spec, out)
        except InputError as error:
            _say(out, ended=str(error))
            return
    _say(out, ended="")


def run_trial(spec: Spec, out: IO[str]) -> None:
    """Train and read, unless the same was done before. out: for progress."""
    samples = read_samples(Path(spec.folder) / "shards" / spec.dataset)
    test = held_out(samples, spec.fold)
    train, validation, unseen = learning_part(samples, spec.fold, spec.share, deciding=len(spec.parameters) > 1)
    inputs = _digest(spec, train, validation, test, unseen)
    if _is_done(spec, inputs):
        return
    recogniser, exact, steps = _fit(spec, train, validation, inputs, out)
    if spec.weights:
        with replacing_folder(Path(spec.weights)) as folder:
            recogniser.save(folder, samples.info, spec.fold)
    provenance = vars(recogniser.provenance)
    info = PredictionInfo.of(samples.info, spec.model, spec.fold, recogniser.parameter_count, **provenance)
    with replacing_folder(spec.result) as folder:
        for name, part in ((PREDICTIONS, test), (UNSEEN, unseen)):
            reading, losses = recogniser.predict(part.pixels), recogniser.losses(part.pixels, part.labels)
            write_predictions(folder / name, info, part, reading, losses)
        result = {"inputs": inputs, "images": len(train), "validation": len(validation), "exact": exact, "steps": steps}
        write_json(folder / RESULT, result)
    shutil.rmtree(spec.scratch, ignore_errors=True)


def learning_part(samples: Samples, fold: int, share: float, *, deciding: bool) -> tuple[Samples, Samples, Samples]:
    """The samples to train on, to validate on, and those that only twice the share would train on; none is in `fold`.

    A tenth, at most 100, are for validation if it is `deciding`, else a fiftieth: the same for every `share`, which is
    of the others. Smaller shares are parts of larger ones. Raises InputError if fewer than two are outside the fold.
    """
    rest = samples.where(samples.folds != fold)
    if len(rest) < 2:
        raise InputError(f"{samples.info.dataset}: {len(rest)} images outside fold {fold}; add images")
    order = hashed_order(rest)
    count = min(max(1, round((_DECIDING if deciding else _SPARED) * len(rest))), _MOST_DECIDING)
    end, later = (count + max(1, round(part * (len(rest) - count))) for part in (share, 2 * share))
    train, validation, unseen = (rest.where(np.sort(p)) for p in (order[count:end], order[:count], order[end:later]))
    return train, validation, unseen


def _fit(
    spec: Spec, train: Samples, validation: Samples, inputs: str, out: IO[str]
) -> tuple[Recogniser, float, int | None]:
    """The trained recogniser, the share that it reads of the validation images, and the steps of its schedule.

    Of several schedules, the one is kept that reads most of the validation images, and the last of equal ones: a longer
    one is mostly better, but not always on few images.
    """
    best, chosen = -1.0, 0
    for number, parameters in enumerate(spec.parameters):
        folder = spec.scratch / f"{inputs}-{number}"
        kept = folder / "finished"
        if kept.exists():
            # This schedule was finished before, and was not enough.
            exact = float(json.loads((kept / RESULT).read_text(encoding="utf-8")))
        else:
            recogniser = build_recogniser(spec.model, train.info.spec, parameters)
            steps = parameters.get("training", {}).get("steps")
            checkpoints = _Reported(folder, steps or 1, number, out)
            exact = recogniser.fit(train, validation, seed=spec.fold, checkpoints=checkpoints)[-1].validation_exact
            with replacing_folder(kept) as temporary:
                recogniser.save_weights(temporary)
                write_json(temporary / RESULT, exact)
        if exact >= best:
            best, chosen = exact, number
        if exact == 1.0:
            break
    parameters = spec.parameters[chosen]
    recogniser = build_recogniser(spec.model, train.info.spec, parameters)
    recogniser.load_weights(spec.scratch / f"{inputs}-{chosen}" / "finished")
    return recogniser, best, parameters.get("training", {}).get("steps")


def _digest(spec: Spec, *parts: Samples) -> str:
    """A hash of all that the result depends on: the samples, the parameters, and the code that learns."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(json.dumps([__version__, spec.model, spec.parameters, spec.fold], sort_keys=True).encode())
    for part in parts:
        text = "\0".join([*part.sample_ids, *part.labels]).encode()
        digest.update(crc32(np.ascontiguousarray(part.pixels).data, crc32(text)).to_bytes(4, "big"))
    digest.update(json.dumps(asdict(parts[0].info), sort_keys=True).encode())
    package = Path(__file__).parents[1]
    for path in (package / part for part in _CODE):
        for file in [path] if path.is_file() else sorted(path.rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _is_done(spec: Spec, inputs: str) -> bool:
    try:
        done = json.loads((spec.result / RESULT).read_text(encoding="utf-8"))["inputs"] == inputs
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return done and (spec.result / PREDICTIONS).is_file() and (not spec.weights or Path(spec.weights).is_dir())


def _say(out: IO[str], **values: Any) -> None:
    print(json.dumps(values), file=out, flush=True)


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
