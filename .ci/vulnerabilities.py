"""Looks up known vulnerabilities of the packages in requirements.lock with pip-audit. `make vulnerabilities` runs it.

    python .ci/vulnerabilities.py [LOCK]

pip-audit gets an environment of its own: by `uv tool run`, by `pipx run`, or a temporary one. It asks PyPI, then OSV
for the packages that PyPI does not know. All lines of the lock file are looked up, those for other systems too.

Exit code 0: all packages were looked up, and `.ci/vulnerabilities.ignore` lists every known vulnerability. 1: it does
not list all. 2: the lookup failed for some packages; pip-audit itself reports "no known vulnerabilities" for these.
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
_TIMEOUT_SECONDS = 900


class Unknown(Exception):
    """The lookup failed. The message is one line that says why and what to do."""


@dataclass
class Answer:
    """The answer of a service.

    unknown: packages that it could not look up; reason: why, for the last of them. vulnerabilities: identifier -> a
    line with the package and the version that fixes it.
    """

    unknown: set[str] = field(default_factory=set)
    reason: str = ""
    vulnerabilities: dict[str, str] = field(default_factory=dict)


def pins(text: str) -> list[str]:
    """Each `name==version` of a lock file once, without extras, markers and hashes."""
    pairs = re.findall(r"^([\w.-]+)(?:\[.*?\])?==([^\s;]+)", text, re.MULTILINE)
    return list(dict.fromkeys(f"{name}=={version}" for name, version in pairs))


def ignored(text: str) -> dict[str, str]:
    """Identifier -> reason. Raises Unknown for a line without a reason."""
    reasons = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            name, _, reason = line.partition("#")
            if not reason.strip():
                raise Unknown(f"{IGNORE.name}: '{name.strip()}': give the reason after a #")
            reasons[name.strip()] = reason.strip()
    return reasons


def batches(pinned: Sequence[str]) -> list[list[str]]:
    """`pinned` in as few lists as possible, each package once per list: a lock file may pin a version per system."""
    by_name: list[dict[str, str]] = []
    for pin in pinned:
        name = pin.split("==")[0]
        batch = next((batch for batch in by_name if name not in batch), None)
        if batch is None:
            by_name.append(batch := {})
        batch[name] = pin
    return [list(batch.values()) for batch in by_name]


@contextmanager
def auditor() -> Iterator[list[str]]:
    """The command that runs pip-audit. Raises Unknown if it cannot be installed."""
    with tempfile.TemporaryDirectory() as folder:
        if shutil.which("uv"):
            command = ["uv", "tool", "run", "--quiet", "--from", TOOL, "pip-audit"]
        elif shutil.which("pipx"):
            command = ["pipx", "run", "--spec", TOOL, "pip-audit"]
        else:
            venv.create(folder, with_pip=True)
            python = str(Path(folder, "bin", "python"))
            _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", TOOL])
            command = [python, "-m", "pip_audit"]
        if _run([*command, "--version"]).returncode:
            raise Unknown(f"{TOOL} could not be installed from the package index; check the network, then try again")
        yield command


def look_up(command: Sequence[str], service: str, pinned: Sequence[str]) -> Answer:
    """The answer of `service` for `pinned` packages. command: runs pip-audit."""
    answer = Answer()
    for batch in batches(pinned):
        with tempfile.TemporaryDirectory() as folder:
            requirements, output = Path(folder, "requirements.txt"), Path(folder, "output.json")
            requirements.write_text("\n".join(batch) + "\n")
            options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
            files = ["--requirement", requirements, "--output", output]
            done = _run([*command, *files, *options, "--vulnerability-service", service])
            text = output.read_text() if output.exists() else ""
        if not text:
            answer.unknown.update(batch)
            answer.reason = (done.stderr.strip().splitlines() or ["pip-audit printed nothing"])[-1]
            continue
        for package in json.loads(text)["dependencies"]:
            pin = next(pin for pin in batch if _is_same_name(pin.split("==")[0], package["name"]))
            if "skip_reason" in package:
                answer.unknown.add(pin)
                answer.reason = package["skip_reason"]
            for entry in package.get("vulns", ()):
                fix = ", ".join(entry["fix_versions"]) or "no version yet"
                names = " ".join([entry["id"], *entry["aliases"]])
                answer.vulnerabilities[entry["id"]] = f"{pin}: {names}; fixed in {fix}"
    return answer


def main(arguments: Sequence[str]) -> int:
    """Look up all packages and print known vulnerabilities. Returns the exit code."""
    pinned = pins(Path(arguments[0] if arguments else LOCK).read_text())
    try:
        reasons: Mapping[str, str] = ignored(IGNORE.read_text())
        vulnerabilities: dict[str, str] = {}
        unknown = set(pinned)
        with auditor() as command:
            for service in SERVICES:
                if unknown:
                    answer = look_up(command, service, sorted(unknown))
                    vulnerabilities |= answer.vulnerabilities
                    print(f"{service}: {len(unknown) - len(answer.unknown)} of {len(unknown)} packages looked up")
                    unknown, reason = answer.unknown, answer.reason
    except Unknown as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name in sorted(vulnerabilities):
        print(f"{vulnerabilities[name]}{f' (ignored: {reasons[name]})' if name in reasons else ''}")
    if new := sorted(set(vulnerabilities) - set(reasons)):
        print(f"error: {len(new)} known vulnerabilities; raise the versions in requirements.lock", file=sys.stderr)
        return 1
    if unknown:
        problem = f"{len(unknown)} of {len(pinned)} packages could not be looked up"
        print(f"error: {problem} ({reason[:200]}); check the network, then try again", file=sys.stderr)
        return 2
    print(f"{len(pinned)} packages, no known vulnerability{' except those ignored' if vulnerabilities else ''}")
    return 0


def _is_same_name(one: str, other: str) -> bool:
    return one.lower().replace("_", "-").replace(".", "-") == other.lower().replace("_", "-").replace(".", "-")


def _run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [str(argument) for argument in command],
            capture_output=True,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise Unknown(f"no answer after {_TIMEOUT_SECONDS} s; check the network, then try again") from None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
