"""Renews requirements.lock from pyproject.toml, with the hashes of all files of each version. `make lock` runs it.

    python .ci/lock.py [WORDS]

Needs uv and the package index. Versions stay as they are where pyproject.toml still allows them. WORDS go to
`uv pip compile`: --upgrade for the newest of all, --upgrade-package NAME for one.
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
# For all systems and every Python from the oldest on. Nothing of the index is written down.
_COMPILE = ("uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--extra", "dev")
_FORM = ("--generate-hashes", "--no-strip-extras", "--no-annotate", "--no-header")


def with_plain(text: str) -> str:
    """The lock file with a line `name==version` before each `name[extra]==version`.

    Some want a package with its extras and some without, and pip before 23.3 takes neither line for the other.
    """
    made = []
    for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE):
        plain = re.sub(r"^([\w.-]+)\[.*?\]", r"\1", entry)
        made += [plain, entry] if plain != entry else [entry]
    return "".join(made)


def main(words: Sequence[str]) -> int:
    """Resolve, and write the lock file."""
    if not shutil.which("uv"):
        print("error: uv is missing; run: python -m pip install uv", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        # What stands there is kept.
        made = Path(folder, LOCK.name)
        shutil.copy(LOCK, made)
        command = [*_COMPILE, *_FORM, "--output-file", str(made), "pyproject.toml", *words]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
        if done.returncode:
            return done.returncode
        whole = LOCK.with_suffix(".new")
        whole.write_text(with_plain(made.read_text()))
        whole.replace(LOCK)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
