"""Coverage-guided fuzzing of the readers of images, archives, labels and parameters, with atheris.

Run by hand: `python -m tests.chaos.fuzz_readers images --seconds 600`. atheris is not a dependency of the project and
has wheels for few versions of Python. To install it in a separate environment:

    python3.11 -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install -r requirements.lock
    /tmp/fuzz/bin/pip install atheris
    /tmp/fuzz/bin/python -m tests.chaos.fuzz_readers archives --seconds 600

An input may only be read or rejected. Anything else is an AssertionError or an uncaught exception of the functions
below. Inputs that failed are kept as tests in test_fuzz_inputs.py.
"""

import argparse
import csv
import io
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path


def images(data: bytes) -> None:
    """One image."""
    from captchabench.config import NormalizeParams
    from captchabench.normalize.images import decode_grey, fit
    from captchabench.normalize.rejects import Rejected

    try:
        grey = decode_grey(data)
    except Rejected as error:
        check_line(error)
        return
    assert fit(grey, NormalizeParams(resize="pad")).shape == (32, 100)


def archives(data: bytes) -> None:
    """One archive. The first byte selects the format."""
    from captchabench.errors import InputError
    from captchabench.sources.archives import open_archive

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"a{('.zip', '.tar', '.tar.gz')[data[0] % 3 if data else 0]}")
        path.write_bytes(data[1:])
        try:
            archive = open_archive(path)
            result = list(archive.read(archive.members))
        except InputError as error:
            check_line(error)
            return
    assert len(result) == len(archive.members)
    assert all(entry.path.isprintable() and not entry.path.startswith("/") for entry in result)


def labels(data: bytes) -> None:
    """Names of images, one per line, through the normaliser of a dataset of text and of one of tiles."""
    from captchabench.config import NormalizeParams
    from captchabench.datasets import DATASETS
    from captchabench.normalize.normalizer import Normalizer
    from captchabench.normalize.rejects import write_rejects
    from captchabench.samples.raw import Entry, RawInfo, write_raw

    names = [name.decode("utf-8", "replace") for name in data.split(b"\n")[:8]]
    with tempfile.TemporaryDirectory() as folder:
        for key in ("parsasam", "grid"):
            dataset, raw = DATASETS[key], Path(folder, key)
            entries = [Entry(name, PICTURE) for name in names]
            write_raw(raw, RawInfo(key, "archive", dataset.version, len(names), {}), entries, dataset.raw_label)
            result = Normalizer(raw, dataset, NormalizeParams())(0)
            assert len(result.ids) + len(result.rejects) == len(names)
            assert all(label.isprintable() for label in result.labels)
            write_rejects(Path(folder, "rejects"), result.rejects)
            text = Path(folder, "rejects").read_bytes().decode()
            assert text.replace("\n", "").isprintable()
            assert text.count("\n") == len(list(csv.reader(io.StringIO(text)))) == len(result.rejects) + 1


def params(data: bytes) -> None:
    """One params.yaml."""
    from captchabench.config import load_params
    from captchabench.errors import InputError

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "params.yaml")
        path.write_bytes(data)
        try:
            load_params(path)
        except InputError as error:
            check_line(error)


def check_line(error: Exception) -> None:
    """An error message must be one line of moderate length without control characters."""
    assert str(error).isprintable()
    assert len(str(error)) < 2000


# The smallest possible.
PICTURE = b"P5 8 8 255 " + bytes(range(64))
READERS: dict[str, Callable[[bytes], None]] = {reader.__name__: reader for reader in (images, archives, labels, params)}


def _seeds(name: str) -> list[bytes]:
    from tests.chaos import mutations

    rng = random.Random(0)
    if name == "images":
        return [encoded for _, encoded in mutations.pictures(rng)]
    if name == "archives":
        sound = enumerate(mutations.packed(rng).items())
        return [
            bytes([i]) + content
            for i, (suffix, whole) in sound
            for content in (whole, *(mutations.mutated_archive(rng, suffix, whole) for _ in range(20)))
        ]
    if name == "labels":
        return ["\n".join(["A/b1234.png", "bus/1.png", *mutations.NAMES[:6]]).encode("utf-8", "replace")]
    return [file.read_bytes() for file in sorted(Path(__file__).parents[2].glob("params*.yaml"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, help="folder of inputs to start from; failing ones are added")
    chosen = parser.parse_args()
    try:
        import atheris
    except ImportError:
        sys.exit("error: atheris is not installed; --help says how to install it")
    with atheris.instrument_imports(include=["captchabench", "PIL", "yaml", "zipfile", "tarfile", "gzip"]):
        for module in ("zipfile", "tarfile", "gzip"):
            sys.modules.pop(module, None)
        READERS[chosen.reader](b"\0")
    corpus = chosen.corpus or Path(tempfile.mkdtemp(prefix=f"fuzz-{chosen.reader}-"))
    corpus.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(_seeds(chosen.reader)):
        (corpus / f"seed-{i:03d}").write_bytes(seed)
    print(f"corpus: {corpus}; what fails goes to {corpus}-found-*", flush=True)
    options = ["-timeout=10", "-rss_limit_mb=3000", "-max_len=20000", "-print_final_stats=1"]
    options += [f"-max_total_time={chosen.seconds}", f"-seed={chosen.seed}", f"-artifact_prefix={corpus}-found-"]
    atheris.Setup([sys.argv[0], str(corpus), *options], READERS[chosen.reader])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
