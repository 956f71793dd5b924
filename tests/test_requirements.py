"""requirements.lock: complete, with hashes, and equal for pip and uv."""

import importlib.util
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
ENTRIES = re.split(r"^(?=\S)", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)[1:]
PINNED = [Requirement(entry.split("\\")[0].strip()) for entry in ENTRIES]


@pytest.fixture
def lock() -> Any:
    spec = importlib.util.spec_from_file_location("lock", ROOT / ".ci/lock.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_file_has_a_hash_and_nothing_names_an_index() -> None:
    for entry in ENTRIES:
        first, *others = entry.rstrip().split(" \\\n")
        assert re.fullmatch(r"[\w.-]+(\[[\w, ]+\])?==[\w.]+( ; .*)?", first), first
        assert others, f"{first} has no hash"
        assert all(re.fullmatch(r" +--hash=sha256:[0-9a-f]{64}", one) for one in others)
    assert not any("://" in entry for entry in ENTRIES)


def test_requirements_of_the_project_are_pinned_within_their_limits() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    words = [word for name in extras if name != "s3" for word in extras[name]] + project["dependencies"]
    for word in words:
        asked = Requirement(word)
        if asked.name == "captchabench":
            assert asked.extras <= extras.keys()
            continue
        pins = [pin for pin in PINNED if canonicalize_name(pin.name) == canonicalize_name(asked.name)]
        assert pins, f"{word}: run make lock"
        assert all(asked.specifier.contains(str(pin.specifier)[2:]) for pin in pins), f"{word}: run make lock"


def test_torch_is_a_build_for_gpus() -> None:
    on_linux = {pin.name for pin in PINNED if pin.marker and pin.marker.evaluate({"sys_platform": "linux"})}
    assert on_linux >= {"nvidia-cudnn-cu13", "triton"}


def test_a_package_with_extras_is_also_listed_without(lock: Any) -> None:
    text = "a==1 \\\n    --hash=sha256:0\nb-c[x, y]==2 ; python_version < '4' \\\n    --hash=sha256:1\nd==3\n"
    plain = "b-c==2 ; python_version < '4' \\\n    --hash=sha256:1\n"
    before, after = text.split("b-c", 1)
    assert lock.with_plain(text) == f"{before}{plain}b-c{after}"
    for pin in PINNED:
        assert not pin.extras or any(other.name == pin.name and not other.extras for other in PINNED), pin
