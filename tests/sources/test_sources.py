"""The three sources: stand-ins, archives and Kaggle."""

import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from captchabench import pool
from captchabench.config import DataParams
from captchabench.datasets import DATASETS
from captchabench.datasets.base import Dataset
from captchabench.errors import InputError
from captchabench.sources.opening import StandinSource, open_source

Pack = Callable[[Path, dict[str, bytes]], Path]


def test_standins_do_not_depend_on_the_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "PATIENCE_SECONDS", 0)
    dataset = DATASETS["numbers6"]
    alone = list(StandinSource(dataset, 5, 300, workers=1).entries())
    assert alone == list(StandinSource(dataset, 5, 300, workers=2).entries())
    assert len(alone) == 300
    assert [entry.path[:7] for entry in alone[:2]] == ["000000/", "000001/"]


def test_a_standin_depends_on_seed_and_index_only(fake: Dataset) -> None:
    few = list(StandinSource(fake, 5, 10, workers=1).entries())
    assert few == list(StandinSource(fake, 5, 20, workers=1).entries())[:10]
    assert few[0].encoded != next(StandinSource(fake, 6, 10, workers=1).entries()).encoded
    assert len({entry.encoded for entry in few}) == 10


def test_standins_default_to_the_published_number(fake: Dataset) -> None:
    assert open_source(fake, DataParams(), "all").total == fake.images
    assert open_source(fake, DataParams(), 7).total == 7


def chosen_paths(fake: Dataset, downloads: Path, images: int, seed: int = 0) -> list[str]:
    source = open_source(fake, DataParams("archive", str(downloads), seed), images)
    paths = [entry.path for entry in source.entries()]
    assert len(paths) == source.total
    return paths


@pytest.mark.parametrize("name", ["fake-captchas.zip", "fake-captchas.tar.gz", "fake-captchas"])
def test_a_limit_chooses_names_by_their_hash(tmp_path: Path, packed: Pack, fake: Dataset, name: str) -> None:
    packed(tmp_path / name, {f"in/{n:02d}.png": b"x" for n in range(50)})
    chosen = chosen_paths(fake, tmp_path, 10)
    assert len(chosen) == 10
    assert set(chosen) < set(chosen_paths(fake, tmp_path, 20))
    assert set(chosen) != set(chosen_paths(fake, tmp_path, 10, seed=1))
    assert chosen != [f"in/{n:02d}.png" for n in range(10)]


def test_the_choice_does_not_depend_on_folders_and_order(tmp_path: Path, packed: Pack, fake: Dataset) -> None:
    packed(tmp_path / "one" / "fake-captchas", {f"in/{n}.png": b"x" for n in range(50)})
    packed(tmp_path / "two" / "fake-captchas", {f"o/ther/{n}.png": b"x" for n in reversed(range(50))})
    names = [{Path(p).name for p in chosen_paths(fake, tmp_path / side, 10)} for side in ("one", "two")]
    assert names[0] == names[1]


def test_an_archive_with_fewer_images_gives_all(tmp_path: Path, packed: Pack, fake: Dataset) -> None:
    packed(tmp_path / "fake-captchas.zip", {f"{n}.png": b"x" for n in range(5)})
    assert len(chosen_paths(fake, tmp_path, 10)) == 5


def fake_client(monkeypatch: pytest.MonkeyPatch, token: object, download: Callable[[str], str]) -> None:
    client, config = types.ModuleType("kagglehub"), types.ModuleType("kagglehub.config")
    monkeypatch.setattr(client, "dataset_download", download, raising=False)
    monkeypatch.setattr(config, "get_kaggle_credentials", lambda: token, raising=False)
    monkeypatch.setitem(sys.modules, "kagglehub", client)
    monkeypatch.setitem(sys.modules, "kagglehub.config", config)


def test_the_pinned_version_is_downloaded(
    tmp_path: Path, packed: Pack, fake: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested = []

    def download(handle: str) -> str:
        requested.append(handle)
        return str(packed(tmp_path / "cache" / "3", {"in/AAA.png": b"x", "note.txt": b""}))

    fake_client(monkeypatch, object(), download)
    source = open_source(fake, DataParams("kaggle", str(tmp_path / "none")), "all")
    assert requested == ["someone/fake-captchas/versions/3"]
    assert [entry.path for entry in source.entries()] == ["in/AAA.png"]
    assert source.skipped == {"not_an_image_name": 1}


class HTTPError(ConnectionError):
    """Like HTTPError of the package requests."""

    response = types.SimpleNamespace(status_code=401)


def refused(handle: str) -> str:
    raise HTTPError(handle)


def test_a_cached_or_public_dataset_needs_no_token(
    tmp_path: Path, packed: Pack, fake: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_client(monkeypatch, None, lambda handle: str(packed(tmp_path / "cache", {"AAA.png": b"x"})))
    source = open_source(fake, DataParams("kaggle", str(tmp_path / "none")), "all")
    assert [entry.path for entry in source.entries()] == ["AAA.png"]


@pytest.mark.parametrize("status", [404, 503])
def test_a_token_is_named_only_if_kaggle_asks_for_one(
    status: int, fake: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other(ConnectionError):
        response = types.SimpleNamespace(status_code=status)

    def download(handle: str) -> str:
        raise Other

    fake_client(monkeypatch, None, download)
    with pytest.raises(InputError, match=rf"Other {status}\); check the network, or put") as caught:
        open_source(fake, DataParams("kaggle"), "all")
    assert "token" not in str(caught.value)


def test_without_a_token_the_error_names_its_files_and_the_alternatives(
    tmp_path: Path, packed: Pack, fake: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(tmp_path / "fake-captchas.zip", {"AAA.png": b"x"})  # exists, but is not used as a fallback
    fake_client(monkeypatch, None, refused)
    with pytest.raises(InputError) as caught:
        open_source(fake, DataParams("kaggle", str(tmp_path)), "all")
    message = str(caught.value)
    for part in (
        "kaggle.json",
        "KAGGLE_USERNAME",
        "KAGGLE_API_TOKEN",
        f"{tmp_path}/fake-captchas.zip",
        "archive",
    ):
        assert part in message
    assert "\n" not in message


def test_the_error_of_a_failed_download_hides_the_token(fake: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(handle: str) -> str:
        raise HTTPError("401 for https://someone:hunter2@kaggle.com")

    fake_client(monkeypatch, object(), download)
    with pytest.raises(InputError, match="HTTPError 401") as caught:
        open_source(fake, DataParams("kaggle"), "all")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__context__ is None
