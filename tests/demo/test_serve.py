"""Starting the demo: finding models, listening on an address, and errors of one line."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from captchabench.cli.app import app
from captchabench.demo.serve import _listen, find_models
from captchabench.errors import InputError
from captchabench.storage.checksum import UNSEALED, sealed

SVC, CRNN = "written-hog_svc-0", "written-crnn-0"


def test_models_are_found_and_what_is_left_out_is_said(trained: Any, tmp_path: Path) -> None:
    (tmp_path / SVC).symlink_to(trained.data / "models" / SVC)
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "config.json").write_text('{"format": 1}', encoding="utf-8")
    (tmp_path / "note.txt").touch()
    trained_models = find_models(tmp_path)
    assert list(trained_models.folders) == list(trained_models.abouts) == [SVC]
    (why,) = trained_models.left_out
    assert "old" in why
    assert "train the model again" in why


@pytest.mark.timeout(300)
def test_a_bad_folder_does_not_take_down_the_others(trained: Any, tmp_path: Path) -> None:
    (tmp_path / SVC).symlink_to(trained.data / "models" / SVC)
    for name in ("pipe", "endless", "text", os.fsdecode(b"caf\xe9")):
        shutil.copytree(trained.data / "models" / CRNN, tmp_path / name)
    for name in ("pipe", "endless"):
        (tmp_path / name / "config.json").unlink()
    os.mkfifo(tmp_path / "pipe" / "config.json")
    (tmp_path / "endless" / "config.json").symlink_to("/dev/zero")
    config = json.loads((tmp_path / "text" / "config.json").read_text())
    config["about"]["source"], config["checksum"] = "\ud800", UNSEALED
    (tmp_path / "text" / "config.json").write_bytes(sealed(json.dumps(config).encode()))
    trained_models = find_models(tmp_path)
    assert list(trained_models.folders) == [SVC]
    reasons = ["name is not UTF-8", "Not a regular file", "Not a regular file", "source: must be text"]
    assert all(reason in why for reason, why in zip(reasons, trained_models.left_out, strict=True))


def test_without_models_it_says_what_to_run(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["demo", "--models", str(tmp_path / "none")])
    assert done.exit_code == 1
    assert "make repro" in done.output
    assert "Traceback" not in done.output


def test_an_address_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"127.0.0.1:{port}: cannot be listened on .*in use.*--port"):
            _listen("127.0.0.1", port)


def test_other_commands_start_without_a_web_server() -> None:
    code = "import sys, captchabench.cli.app; assert not {'fastapi', 'uvicorn', 'torch'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
