"""A Kaggle token is sent to Kaggle only: it is in no message, log, traceback or file, and reaches no other host."""

import logging
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from captchabench.datasets import DATASETS
from captchabench.errors import InputError
from captchabench.sources.kaggle import download
from tests.chaos.fake_kaggle import ANSWERS, ELSEWHERE, GOOD, PLACES, Kaggle, keep_in, serving
from tests.chaos.planted import forms, leaks

ROOT = Path(__file__).parents[1]
USER, SECRET, PASSWORD = "planteduser", "plantedKEY0123456789abcdef", "plantedPROXYpassword98765"
WANTED = [*forms(USER, SECRET), *forms("someone", PASSWORD)]
OWN = ("KAGGLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA")


@pytest.fixture(scope="module")
def kaggle() -> Iterator[Kaggle]:
    with serving(images=4) as server:
        yield server


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Removes the token and the proxy of the machine from the environment."""
    for name in os.environ:
        if name.upper().startswith(OWN):
            monkeypatch.delenv(name)
    return monkeypatch


def plant(place: str, kaggle: Kaggle, home: Path, patch: pytest.MonkeyPatch) -> None:
    for name, value in {**keep_in(place, home, USER, SECRET), **kaggle.environment(PASSWORD)}.items():
        patch.setenv(name, value)
    # The client reads them when it is imported, which another test may have done.
    patch.setattr("kagglehub.config.DEFAULT_KAGGLE_CREDENTIALS_FOLDER", str(home / ".kaggle"))


def attempt(home: Path) -> InputError | Path:
    """Download, and return the file or the error. No local variable of our frames holds the token."""
    try:
        return download(DATASETS["numbers6"], home)
    except InputError as error:
        return error


def told(error: BaseException) -> str:
    """All that an error reporter could show: the traceback with the local variables of each frame."""
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


def leaked(text: str) -> list[bytes]:
    """The forms of a secret that occur in `text`."""
    return [form for form in WANTED if form in text.encode()]


def authorised(kaggle: Kaggle) -> list[str]:
    """The hosts that received the token."""
    return [host for host, headers in kaggle.seen if any(f.decode() in str(headers) for f in forms(USER, SECRET))]


@pytest.mark.parametrize("place", PLACES)
def test_each_place_of_a_token_works(place: str, kaggle: Kaggle, tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    plant(place, kaggle, tmp_path, bare)
    kaggle.answer = "zip"
    kaggle.seen.clear()
    folder = attempt(tmp_path)
    assert isinstance(folder, Path)
    assert len(list(folder.rglob("*.png"))) == 4
    assert authorised(kaggle) == ["localhost"]


@pytest.mark.parametrize("place", ["KAGGLE_USERNAME and KAGGLE_KEY", "KAGGLE_API_TOKEN"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_no_answer_makes_the_client_leak_it(
    answer: str,
    place: str,
    kaggle: Kaggle,
    tmp_path: Path,
    bare: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    plant(place, kaggle, tmp_path, bare)
    caplog.set_level(logging.DEBUG)
    kaggle.answer = answer
    kaggle.seen.clear()
    result = attempt(tmp_path)
    assert isinstance(result, Path) == (answer in GOOD)
    shown = caplog.text
    if isinstance(result, InputError):
        assert result.__context__ is None
        assert result.__cause__ is None
        assert "\n" not in str(result)
        shown += told(result)
    assert leaked(shown + "".join(capfd.readouterr())) == []
    assert set(authorised(kaggle)) == {"localhost"}
    if answer == "redirect":
        assert [host for host, _ in kaggle.seen] == ["localhost", ELSEWHERE]
    assert leaks([tmp_path], WANTED) == []


def test_the_output_of_a_client_that_prints_its_requests_is_suppressed(
    kaggle: Kaggle, tmp_path: Path, bare: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plant("KAGGLE_API_TOKEN", kaggle, tmp_path, bare)
    bare.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    kaggle.answer = "zip"
    assert isinstance(attempt(tmp_path), Path)
    assert leaked("".join(capfd.readouterr())) == []


@pytest.mark.parametrize("content", ["", SECRET, f'{{"key": "{SECRET}"}}', f'["{SECRET}"]', "7", "\xff" + SECRET])
def test_a_damaged_token_is_not_quoted(content: str, kaggle: Kaggle, tmp_path: Path, bare: pytest.MonkeyPatch) -> None:
    plant("kaggle.json", kaggle, tmp_path, bare)
    (tmp_path / ".kaggle/kaggle.json").write_bytes(content.encode("latin-1"))
    error = attempt(tmp_path)
    assert isinstance(error, InputError)
    assert "token cannot be read" in str(error)
    assert error.__context__ is None
    assert leaked(told(error)) == []


def test_a_token_that_is_too_long_for_a_path_is_not_quoted(
    kaggle: Kaggle, tmp_path: Path, bare: pytest.MonkeyPatch
) -> None:
    plant("KAGGLE_API_TOKEN", kaggle, tmp_path, bare)
    bare.setenv("KAGGLE_API_TOKEN", SECRET * 200)  # the client checks whether it is the name of a file
    error = attempt(tmp_path)
    assert isinstance(error, InputError)
    assert error.__context__ is None
    assert leaked(told(error)) == []


@pytest.mark.parametrize("answer", ["zip", "401"])
def test_the_stage_does_not_write_or_print_it(
    answer: str, kaggle: Kaggle, tmp_path: Path, bare: pytest.MonkeyPatch
) -> None:
    home, folder = tmp_path / "home", tmp_path / "repository"
    plant("kaggle.json", kaggle, home, bare)
    for name, value in {"KAGGLEHUB_VERBOSITY": "debug", "KAGGLE_LOGGING_ENABLED": "1", "PYTHONPATH": ROOT}.items():
        bare.setenv(name, str(value))
    folder.mkdir()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["data"]["source"] = "kaggle"
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    kaggle.answer = answer
    command = [sys.executable, "-m", "stages.ingest", "numbers6"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == (0 if answer == "zip" else 1), done.stderr
    assert (folder / "data/raw/numbers6.parquet").exists() == (answer == "zip")
    (folder / "printed").write_text(done.stdout + done.stderr)
    assert (home / ".kaggle/logs/kagglehub.log").exists()
    assert leaks([tmp_path], WANTED, spared=[home / ".kaggle/kaggle.json"]) == []


def test_the_search_finds_planted_secrets(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"label": [SECRET] * 3}), tmp_path / "a.parquet", compression="zstd")
    (tmp_path / "basic").write_bytes(forms(USER, SECRET)[0])
    (tmp_path / SECRET).write_text("")
    (tmp_path / "clean").write_text(USER)
    found = {Path(line.split(" (")[0]).name for line in leaks([tmp_path], WANTED)}
    assert found == {"a.parquet", "basic", SECRET}
