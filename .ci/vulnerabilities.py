"""Known vulnerabilities of the packages in requirements.lock, by pip-audit. `make vulnerabilities` runs it.

    python .ci/vulnerabilities.py [LOCK]

pip-audit is fetched into a place of its own: by `uv tool run`, by `pipx run`, or into a throw-away environment. It asks
PyPI, and where that does not know a package, OSV. All lines of the lock file are asked for, whatever system they are
meant for. Exit code 0: each was looked up, and nothing is known that `.ci/vulnerabilities.ignore` does not list. 1:
something is. 2: it could not be found out, which is no good news: pip-audit itself says "no known vulnerabilities" of
packages that it could not look up.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
IGNORE = Path(__file__).with_name("vulnerabilities.ignore")
TOOL = "pip-audit>=2.9,<3"
SERVICES = ("pypi", "osv")
_PATIENCE_SECONDS = 900


class Unknown(Exception):
    """It cannot be found out. The message is one line that says why, and what to do."""


@dataclass
class Answer:
    """What a service knows. silent: packages that it could not look up. found: id, package and what mends it."""

    silent: set[str] = field(default_factory=set)
    found: dict[str, str] = field(default_factory=dict)
    said: str = ""


def pins(text: str) -> list[str]:
    """Each `name==version` of a lock file, once, without extras, marker and hashes."""
    found = re.findall(r"^([\w.-]+)(?:\[.*?\])?==([^\s;]+)", text, re.MULTILINE)
    return list(dict.fromkeys(f"{name}=={version}" for name, version in found))


def ignored(text: str) -> dict[str, str]:
    """Identifier to reason. Raises Unknown for a line without one."""
    reasons = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition("#")
            if not reason.strip():
                raise Unknown(f"{IGNORE.name}: '{name.strip()}': give the reason after a #")
            reasons[name.strip()] = reason.strip()
    return reasons


def rounds(wanted: Sequence[str]) -> list[list[str]]:
    """`wanted` in as few lists as possible, no package twice in one: a lock may pin two versions, for two systems."""
    made: list[dict[str, str]] = []
    for pin in wanted:
        name = pin.split("==")[0]
        place = next((one for one in made if name not in one), None)
        if place is None:
            made.append(place := {})
        place[name] = pin
    return [list(one.values()) for one in made]


@contextmanager
def auditor() -> Iterator[list[str]]:
    """The command that runs pip-audit. Raises Unknown where it cannot be had."""
    with tempfile.TemporaryDirectory() as folder:
        if shutil.which("uv"):
            command = ["uv", "tool", "run", "--quiet", "--from", TOOL, "pip-audit"]
        elif shutil.which("pipx"):
            command = ["pipx", "run", "--spec", TOOL, "pip-audit"]
        else:
            venv.create(folder, with_pip=True)
            own = str(Path(folder, "bin", "python"))
            _run([own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", TOOL])
            command = [own, "-m", "pip_audit"]
        if _run([*command, "--version"]).returncode:
            raise Unknown(f"{TOOL} cannot be had from the package index; look at the network, then try again")
        yield command


def ask(command: Sequence[str], service: str, wanted: Sequence[str]) -> Answer:
    """What a service knows of pins."""
    answer = Answer()
    for names in rounds(wanted):
        with tempfile.TemporaryDirectory() as folder:
            asked, told = Path(folder, "asked.txt"), Path(folder, "told.json")
            asked.write_text("\n".join(names) + "\n")
            words = ["--requirement", asked, "--no-deps", "--disable-pip", "--vulnerability-service", service]
            done = _run([*command, *map(str, words), "--progress-spinner", "off", "--format", "json", "--output", told])
            text = told.read_text() if told.exists() else ""
        if not text:
            answer.silent.update(names)
            answer.said = (done.stderr.strip().splitlines() or ["nothing said"])[-1]
            continue
        for package in json.loads(text)["dependencies"]:
            pin = next(p for p in names if _same(p.split("==")[0], package["name"]))
            if "skip_reason" in package:
                answer.silent.add(pin)
                answer.said = package["skip_reason"]
            for one in package.get("vulns", ()):
                mend = ", ".join(one["fix_versions"]) or "no version yet"
                answer.found[one["id"]] = f"{pin}: {one['id']} {' '.join(one['aliases'])}; mended in {mend}"
    return answer


def main(words: Sequence[str]) -> int:
    """Ask, and say what is known."""
    wanted = pins(Path(words[0] if words else LOCK).read_text())
    try:
        reasons: Mapping[str, str] = ignored(IGNORE.read_text())
        found: dict[str, str] = {}
        left = set(wanted)
        with auditor() as command:
            for service in SERVICES:
                if left:
                    answer = ask(command, service, sorted(left))
                    found |= answer.found
                    print(f"{service}: {len(left) - len(answer.silent)} of {len(left)} packages looked up")
                    left, said = answer.silent, answer.said
    except Unknown as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name in sorted(found):
        print(f"{found[name]}{f' (ignored: {reasons[name]})' if name in reasons else ''}")
    if new := sorted(set(found) - set(reasons)):
        print(f"error: {len(new)} known vulnerabilities; raise the versions in requirements.lock", file=sys.stderr)
        return 1
    if left:
        print(f"error: nothing is known of {len(left)} of {len(wanted)} packages ({said[:200]})", file=sys.stderr)
        return 2
    print(f"{len(wanted)} packages, no known vulnerability{' but those ignored' if found else ''}")
    return 0


def _same(one: str, other: str) -> bool:
    return one.lower().replace("_", "-").replace(".", "-") == other.lower().replace("_", "-").replace(".", "-")


def _run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [str(word) for word in command], capture_output=True, text=True, check=False, timeout=_PATIENCE_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise Unknown(f"no answer after {_PATIENCE_SECONDS} s; look at the network, then try again") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
