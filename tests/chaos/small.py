"""A small real benchmark in a separate repository, for the long scripts."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]

_TRAINING = {"steps": 12, "batch_size": 16, "evaluations": 2}

# All five recognisers, narrow, with training budgets of seconds.
MODELS: dict[str, dict[str, Any]] = {
    "hog_svc": {"max_characters": 400},
    "char_cnn": {"channels": [8, 8, 8, 8], "training": _TRAINING},
    "crnn": {"channels": [8, 8, 8], "stem_stride": 2, "hidden": 16, "layers": 1, "training": _TRAINING},
    "cnn_transformer": {"channels": [8, 8, 8], "stem_stride": 2, "training": _TRAINING},
    "effnet_b1": {"training": {**_TRAINING, "steps": 2, "batch_size": 8, "evaluations": 1}},
}


class Benchmark:
    """A copy of the program in `folder` with its own params.yaml, committed once."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        ignore = shutil.ignore_patterns("__pycache__")
        for name in ("captchabench", "flows", "results", "stages"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        (folder / "data/downloads").mkdir(parents=True)
        for name in ("Makefile", "dvc.yaml", "params.yaml", "prefect.yaml", ".gitignore", ".dvcignore"):
            shutil.copy(ROOT / name, folder / name)
        self.set(**sections)
        # The same as `dvc init`, but faster.
        (folder / ".dvc").mkdir()
        (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n", encoding="utf-8")
        shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")
        self.git("init", "-q")
        self.commit("as it begins")

    def params(self) -> dict[str, Any]:
        """The content of params.yaml."""
        return dict(yaml.safe_load((self.folder / "params.yaml").read_text()))

    def set(self, **sections: Any) -> None:
        """Replace whole sections of params.yaml."""
        path = self.folder / "params.yaml"
        path.write_text(yaml.safe_dump({**self.params(), **sections}))

    def environment(self, **more: str) -> dict[str, str]:
        """Variables for commands: the code of this copy, no user settings of Git, Prefect's database in the folder."""
        person = {f"GIT_{who}_{what}": "a@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        return {
            **os.environ,
            **person,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.folder),
            "PREFECT_HOME": str(self.folder / ".prefect"),
            **more,
        }

    def call(
        self, *command: str, environment: Mapping[str, str] | None = None, check: bool = True, limit: float = 1800
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the folder. If it fails and `check` is set, raises RuntimeError with its output."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=dict(environment or self.environment()),
            capture_output=True,
            text=True,
            check=False,
            timeout=limit,
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def git(self, *arguments: str) -> str:
        """Run Git and return its output."""
        return self.call("git", *arguments).stdout

    def dvc(self, *arguments: str) -> str:
        """Run DVC and return its output."""
        return self.call(sys.executable, "-m", "dvc", *arguments).stdout

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro` and return the stages that ran."""
        return re.findall(r"Running stage '([^']+)'", self.dvc("repro", *arguments))

    def commit(self, message: str) -> str:
        """Commit all files that are not ignored and return the hash."""
        self.git("add", "-A")
        self.git("commit", "-qm", message, "--allow-empty")
        return self.git("rev-parse", "HEAD").strip()
