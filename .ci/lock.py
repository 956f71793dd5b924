"""Renews requirements.lock from pyproject.toml, with the hashes of all files of each version. `make lock` runs it.

    python .ci/lock.py [ARGUMENTS]

Needs uv and the package index. A version changes only if pyproject.toml no longer allows it. ARGUMENTS are passed to
`uv pip compile`: --upgrade takes the newest versions of all packages, --upgrade-package NAME of one.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
# For all systems and all Pythons from the oldest that is supported.
_COMPILE = ("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--extra", "dev")
# The address of the index is not written.
_OUTPUT = ("--generate-hashes", "--no-strip-extras", "--no-annotate", "--no-header")


def with_plain(text: str) -> str:
    """The lock file with a line `name==version` before each `name[extra]==version`.

    Some packages require the one with its extras and some without, and pip before 23.3 accepts neither line for the
    other.
    """
    lines = []
    for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE):
        plain = re.sub(r"^([\w.-]+)\[.*?\]", r"\1", entry)
        lines += [plain, entry] if plain != entry else [entry]
    return "".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Resolve the dependencies and write the lock file. Returns the exit code."""
    if not shutil.which("uv"):
        print("error: uv is missing; run: python -m pip install uv", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        # uv keeps the versions that it finds in the output file.
        resolved = Path(folder, LOCK.name)
        shutil.copy(LOCK, resolved)
        command = [*_COMPILE, *_OUTPUT, "--output-file", str(resolved), "pyproject.toml", *arguments]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            return done.returncode
        new = LOCK.with_suffix(".new")
        new.write_text(with_plain(resolved.read_text()))
        new.replace(LOCK)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
