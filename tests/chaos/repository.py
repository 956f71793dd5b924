"""A small real benchmark to kill or disturb: all kinds of stages, with networks that train for a few seconds."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from tests.chaos.small import Benchmark

_STEPS = {"batch_size": 16, "evaluations": 4, "learning_rate": 3e-3}
PARAMS: Mapping[str, Any] = {
    "datasets": {"fournierp": {"images": 160}, "grid": {"images": 500}},
    "matrix": {
        "datasets": ["fournierp"],
        "models": ["dummy", "hog_svc", "char_cnn", "crnn"],
        "union": ["dummy"],
        "tiles": {"datasets": ["grid"], "models": ["dummy"]},
        "folds": [0],
    },
    "probe": {"images": 8},
    "models": {
        "dummy": {},
        "hog_svc": {"max_characters": 300},
        "char_cnn": {"channels": [8, 8, 16, 16], "training": {**_STEPS, "steps": 150, "augment": 0.2}},
        "crnn": {
            "channels": [8, 16, 24],
            "stem_stride": 2,
            "hidden": 24,
            "layers": 1,
            "dropout": 0.1,
            "training": {**_STEPS, "steps": 150, "clip_norm": 10.0, "guide": 50.0, "augment": 0.2},
        },
    },
}

# Folders and files that are the same in every run. Timings differ.
_COMPARED = ("metrics", "data/raw", "data/shards", "data/rejects", "data/models", "data/predictions", "data/probes")
_TIMED = {"train_seconds", "images_per_second"}
# Names of temporary files, ours and DVC's.
_LEFTOVERS = ("**/*.tmp", "metrics/**/.*", "data/**/.*", "reports/.*", "data/scratch/*")


class Repository:
    """A copy of the benchmark in a separate Git and DVC repository."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def make(cls, folder: Path, files: Mapping[str, str] | None = None) -> "Repository":
        """Copy the code to `folder` and commit it; nothing has run yet. files: replacements for some of its files."""
        benchmark = Benchmark(folder, **PARAMS)
        if files:
            for name, text in files.items():
                (folder / name).write_text(text, encoding="utf-8")
            benchmark.commit("other texts")
        return cls(folder)

    def copy(self, folder: Path) -> "Repository":
        """Copy everything, including DVC's cache and time stamps, to another folder."""
        subprocess.run(["cp", "-a", str(self.folder), str(folder)], check=True)
        return Repository(folder)

    @property
    def environment(self) -> dict[str, str]:
        """Variables for commands in the repository: its code, one thread, no files outside of the folder."""
        own = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
            "PYTHONUNBUFFERED": "1",
            "LC_ALL": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "DVC_NO_ANALYTICS": "1",
            # Next to the folder, since Git would list it inside.
            "DVC_SITE_CACHE_DIR": str(self.folder.with_name(f"{self.folder.name}.site")),
            "CAPTCHABENCH_CHECKPOINT_SECONDS": "0.3",
            **{f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }
        return {**os.environ, **own}

    def call(self, *command: str) -> str:
        """The output of a command. Raises AssertionError with the output if it fails."""
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        """The stages that DVC considers stale, with the reasons."""
        result: dict[str, Any] = json.loads(self.call(sys.executable, "-m", "dvc", "status", "--json"))
        return result

    def results(self) -> dict[str, str]:
        """Path -> digest of each result except timings."""
        paths = [path for name in _COMPARED for path in (self.folder / name).rglob("*") if path.is_file()]
        own = [path for path in paths if path.name != ".gitignore"]
        return {path.relative_to(self.folder).as_posix(): _digest(path) for path in own}

    def leftovers(self) -> list[str]:
        """Temporary files of interrupted writers."""
        result = {path for pattern in _LEFTOVERS for path in self.folder.glob(pattern)}
        return sorted(str(path.relative_to(self.folder)) for path in result if path.name != ".gitignore")

    def processes(self) -> dict[int, str]:
        """Process id -> command line of the processes that run in the folder."""
        result = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    inside = (entry / "cwd").readlink().is_relative_to(self.folder)
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                except OSError:
                    continue
                # A zombie has no command line.
                if inside and line:
                    result[int(entry.name)] = line
        return result


def differences(result: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """The paths of results that differ, are missing, or are not expected."""
    return sorted(path for path in {*result, *wanted} if result.get(path) != wanted.get(path))


def _digest(path: Path) -> str:
    content = path.read_bytes()
    if path.name == "leaderboard.csv":
        content = pl.read_csv(path).drop(_TIMED).write_csv().encode()
    return hashlib.sha256(content).hexdigest()


def run(command: Sequence[str], repository: Repository, log: Path) -> subprocess.Popen[bytes]:
    """Start a command in a new session. Its output goes to `log`."""
    with log.open("wb") as out:
        return subprocess.Popen(
            command,
            cwd=repository.folder,
            env=repository.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
