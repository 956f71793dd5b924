"""The wheel: its content, and that reading images needs no extras."""

import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from captchabench import __version__
from captchabench.models import build_recogniser
from captchabench.samples.shards import Samples

ROOT = Path(__file__).parents[1]
# Modules that come with extras and that the library alone must not need.
EXTRAS = (
    "altair", "dask", "distributed", "dvc", "fastapi", "fonticon_mdi7", "kagglehub", "networkx", "onnx", "onnxruntime",
    "prefect", "prometheus_client", "ruamel", "starlette", "statsmodels", "uvicorn", "vl_convert",
)  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the repository."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_has_pages_types_and_the_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for file in (
        "report/page.css",
        "report/page.html",
        "report/page.js",
        "demo/pages/page.html",
        "demo/pages/demo.css",
    ):
        assert f"captchabench/{file}" in names
    assert "captchabench/py.typed" in names
    assert f"captchabench-{__version__}.dist-info/licenses/LICENSE" in names
    ours = {path.relative_to(ROOT).as_posix() for path in (ROOT / "captchabench").rglob("*.py")}
    assert ours <= set(names)
    assert not any(name.startswith(("tests", "stages", "flows")) or "__pycache__" in name for name in names)


def test_the_library_alone_reads_an_image(wheel: Path, make_samples: Callable[..., Samples], tmp_path: Path) -> None:
    samples = make_samples(40)
    recogniser = build_recogniser("hog_svc", samples.info.spec, {"cosines": 50})
    recogniser.fit(samples, samples, seed=0)
    (tmp_path / "model").mkdir()
    recogniser.save(tmp_path / "model", samples.info, 0)
    Image.fromarray(samples.pixels[0]).save(tmp_path / "a.png")
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(wheel)!r})\n"
        f"for name in {EXTRAS}: sys.modules[name] = None\n"
        "import captchabench\n"
        "assert '.whl' in captchabench.__file__\n"
        "from captchabench.cli.app import app\n"
        "app(['predict', '--model', 'model', 'a.png'])\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(recogniser.predict(samples.pixels[:1]).texts[0]) in done.stdout


def test_a_command_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    code = "import sys; sys.modules['uvicorn'] = None\nfrom captchabench.cli.app import app\napp(['demo'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: this needs uvicorn; run: pip install 'captchabench[demo]'\n"


def test_every_extra_that_a_message_names_exists() -> None:
    from captchabench.cli.app import _EXTRAS

    assert (
        _EXTRAS.keys()
        <= tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()
    )
