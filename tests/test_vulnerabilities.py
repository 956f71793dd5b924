"""The check for known vulnerabilities fails for those found and for packages that could not be looked up."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]

# Replaces pip-audit: finds a vulnerability in `bad` and does not know `quiet`.
AUDITOR = """
import json, pathlib, sys
words = dict(zip(sys.argv[1:], sys.argv[2:]))
pins = pathlib.Path(words["--requirement"]).read_text().split()
names = [pin.split("==")[0] for pin in pins]
assert len(set(names)) == len(names)
told = []
for name in names:
    one = {"name": name, "version": "1", "vulns": []}
    if name == "bad":
        one["vulns"] = [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}]
    told.append({"name": name, "skip_reason": "not found"} if name == "quiet" else one)
pathlib.Path(words["--output"]).write_text(json.dumps({"dependencies": told}))
"""


@pytest.fixture
def audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("vulnerabilities", ROOT / ".ci/vulnerabilities.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "vulnerabilities", module)
    spec.loader.exec_module(module)
    (tmp_path / "auditor.py").write_text(AUDITOR)

    @contextmanager
    def auditor() -> Iterator[list[str]]:
        yield [sys.executable, "-S", str(tmp_path / "auditor.py")]

    monkeypatch.setattr(module, "auditor", auditor)
    monkeypatch.setattr(module, "IGNORE", tmp_path / "ignore")
    (tmp_path / "ignore").write_text("# none\n")
    return module


@pytest.mark.parametrize(
    ("lock", "ignore", "code"),
    [
        ("a==1\nb==2 ; python_version < '3.12'\nb==3 ; python_version >= '3.12'\n", "", 0),
        ("a==1\nbad==1\n", "", 1),
        ("a[x, y]==1 \\\n    --hash=sha256:0\nbad==1 ; python_version < '4' \\\n    --hash=sha256:1\n", "", 1),
        ("a==1\nbad==1\n", "PYSEC-1  # only on Amigas\n", 0),
        ("a==1\nbad==1\n", "PYSEC-1\n", 2),
        ("a==1\nquiet==1\n", "", 2),
    ],
)
def test_known_vulnerabilities_and_unknown_packages_fail(
    audit: Any, tmp_path: Path, lock: str, ignore: str, code: int
) -> None:
    (tmp_path / "lock").write_text(lock)
    (tmp_path / "ignore").write_text(ignore)
    assert audit.main([str(tmp_path / "lock")]) == code


def test_every_package_of_the_lock_file_is_looked_up(audit: Any) -> None:
    text = (ROOT / "requirements.lock").read_text()
    packages = {re.split(r"[\[=]", line)[0] for line in text.splitlines() if not line.startswith(" ")}
    assert {pin.split("==")[0] for pin in audit.pins(text)} == packages
    assert len(packages) > 100
    assert sorted(pin for names in audit.rounds(audit.pins(text)) for pin in names) == sorted(audit.pins(text))
