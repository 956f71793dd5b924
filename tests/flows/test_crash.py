"""Killed runs: no process is left, and the next run continues."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import State

from captchabench.errors import InputError
from captchabench.storage.lockfile import BACKUP, entries, keep_lock_file
from flows import ROOT
from flows import benchmark as flow
from flows.recovery import remove_damaged, repair, run_lock
from tests.flows.watching import alive, await_that, needs_proc

RUN = """
import pathlib, sys
from flows import benchmark as flow
flow.publish = lambda *_: []
flow.ROOT = pathlib.Path(sys.argv[1])
flow.benchmark(return_state=True)
"""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> None:
    """One server for this process and its children."""
    from prefect.server.api.server import SubprocessASGIServer

    server = SubprocessASGIServer()
    server.start()
    monkeypatch.setenv("PREFECT_API_URL", server.api_url)


def sleeping(pipeline: Any) -> subprocess.Popen[bytes]:
    """A run in a separate process, with a stage that has begun and does not end."""
    pipeline.order("read-a", "open('begun', 'w').close()\ntime.sleep(100)")
    run = subprocess.Popen(
        [sys.executable, "-c", RUN, str(pipeline.folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    await_that((pipeline.folder / "begun").exists)
    return run


def state_of(client: SyncPrefectClient, flow_run: str) -> State[Any]:
    state = client.read_flow_run(UUID(flow_run)).state
    assert state is not None
    return state


@needs_proc
def test_a_killed_run_leaves_no_process_and_the_next_closes_it_and_goes_on(
    pipeline: Any, api: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = sleeping(pipeline)
    assert any("stage.py read-a" in line for line in alive(pipeline))
    with pytest.raises(InputError, match="another run is at work here"), run_lock(pipeline.folder, "ours"):
        pass
    dead = (pipeline.folder / ".dvc/tmp/flow.lock").read_text()
    run.kill()
    run.wait()
    await_that(lambda: not alive(pipeline))
    with get_client(sync_client=True) as client:
        assert state_of(client, dead).is_running()
        assert "make-a" in pipeline.ran()

        pipeline.order("read-a", "")
        monkeypatch.setattr(flow, "publish", lambda *_: [])
        monkeypatch.setattr(flow, "ROOT", pipeline.folder)
        assert flow.benchmark(return_state=True).is_completed()
        assert "make-a" not in pipeline.ran()
        assert (pipeline.folder / "out/table").read_text() == "make-aread-amake-bread-btable"
        assert state_of(client, dead).is_crashed()
    assert (pipeline.folder / ".dvc/tmp/flow.lock").read_text() == ""


def test_what_a_dead_run_left_behind_can_be_handed_on(pipeline: Any) -> None:
    lock = pipeline.folder / ".dvc/tmp/flow.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text("a dead flow's id")
    with run_lock(pipeline.folder, "between", keep_left_behind=True):
        assert lock.read_text() == "between"
    with run_lock(pipeline.folder, "ours") as held:
        assert held.left_behind == "a dead flow's id"
    assert lock.read_text() == ""


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_ends_its_stages(pipeline: Any, api: None, number: signal.Signals) -> None:
    run = sleeping(pipeline)
    run.send_signal(number)
    run.wait(300)
    assert not alive(pipeline)
    with run_lock(pipeline.folder, "ours") as lock:
        assert lock.left_behind == ""


def test_files_cut_short_are_put_right(pipeline: Any) -> None:
    pipeline.dvc("repro", "-q")
    lock, claims = pipeline.folder / "dvc.lock", pipeline.folder / ".dvc/tmp/rwlock"
    whole = lock.read_text()
    keep_lock_file(pipeline.folder)
    assert repair(pipeline.folder) == []
    # The length of one write of DVC, after which the file may be valid YAML.
    lock.write_text(whole[: whole.index("path: out/read-a") + 4])
    keep_lock_file(pipeline.folder)
    dead = subprocess.Popen(["true"])
    dead.wait()
    entry = {"pid": dead.pid, "cmd": "dvc repro"}
    claims.write_text(json.dumps({"read": {"/a": [entry]}, "write": {"/b": entry}}))
    assert len(repair(pipeline.folder)) == 2
    assert lock.read_text() == whole
    assert json.loads(claims.read_text()) == {"read": {}, "write": {}}
    claims.write_text('{"read": {"/a')
    assert len(repair(pipeline.folder)) == 1
    assert pipeline.dvc("status").strip() == "Data and pipelines are up to date."


def test_a_copy_that_knows_less_does_not_replace_one_that_knows_more(pipeline: Any) -> None:
    pipeline.dvc("repro", "-q")
    lock = pipeline.folder / "dvc.lock"
    whole = lock.read_text()
    keep_lock_file(pipeline.folder)
    lock.write_text(whole[: whole.index("  table:")])
    keep_lock_file(pipeline.folder)
    lock.write_text("stages: [")
    repair(pipeline.folder)
    assert lock.read_text() == whole


def test_a_file_in_use_stays_in_use(pipeline: Any) -> None:
    claims = pipeline.folder / ".dvc/tmp/rwlock"
    living = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()", "dvc"], stdin=subprocess.PIPE)
    text = json.dumps({"read": {}, "write": {"/b": {"pid": living.pid, "cmd": "dvc repro"}}})
    claims.write_text(text)
    assert repair(pipeline.folder) == []
    assert claims.read_text() == text
    living.communicate()


def test_an_entry_lost_at_a_lines_end_comes_back_but_an_earlier_commit_is_left_alone(pipeline: Any) -> None:
    pipeline.dvc("repro", "-q")
    lock = pipeline.folder / "dvc.lock"
    whole = lock.read_text()
    fewer = whole[: whole.index("  read@b:")]
    keep_lock_file(pipeline.folder)
    lock.write_text(fewer)
    assert len(repair(pipeline.folder)) == 1
    assert lock.read_text() == whole

    lock.write_text(fewer)
    pipeline.call("git", "add", "-A")
    pipeline.call("git", "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-qm", "fewer")
    assert repair(pipeline.folder) == []
    assert lock.read_text() == fewer


def test_what_a_cut_lock_file_knows_better_than_the_copy_is_kept(pipeline: Any) -> None:
    pipeline.dvc("repro", "-q")
    lock = pipeline.folder / "dvc.lock"
    keep_lock_file(pipeline.folder)
    old = entries(lock.read_text())
    pipeline.write("params.yaml", "cells: [a, b]\nsizes: {a: 2, b: 1}\n")
    pipeline.dvc("repro", "-q")
    new = lock.read_text()
    changed = [name for name, text in entries(new).items() if text != old[name]]
    assert changed == ["make@a"]
    lock.write_text(new[: new.index("read@a:") + 20])
    assert len(repair(pipeline.folder)) == 1
    assert lock.read_text() == new


def test_a_merge_that_is_not_finished_is_left_to_the_person(pipeline: Any) -> None:
    pipeline.dvc("repro", "-q")
    keep_lock_file(pipeline.folder)
    lock = pipeline.folder / "dvc.lock"
    text = lock.read_text() + "<<<<<<< HEAD\n"
    lock.write_text(text)
    assert repair(pipeline.folder) == []
    assert lock.read_text() == text


def test_temporary_files_of_dvcs_are_swept_and_no_others(pipeline: Any) -> None:
    folder, runs = pipeline.folder / ".dvc/cache/files/md5/4a", pipeline.folder / ".dvc/cache/runs/64/646"
    folder.mkdir(parents=True)
    runs.mkdir(parents=True)
    dvcs = [folder / ".hj8mSmpBAbfvYrDrGg2qeA.tmp", runs / "0d50a.WxTCv5Oq8b0sQZyoyrU2Eg.tmp"]
    own = folder / ".small.parquet.k8_lprd1.tmp"
    for path in (*dvcs, own):
        path.touch()
    assert repair(pipeline.folder) == ["2 temporary files that DVC left: removed"]
    assert own.exists()
    assert not any(path.exists() for path in dvcs)


def test_a_folder_left_empty_in_the_run_cache_is_removed(pipeline: Any) -> None:
    pipeline.dvc("repro", "-q")
    entries = list((pipeline.folder / ".dvc/cache/runs").glob("*/*/*"))
    assert entries
    for entry in entries:
        entry.unlink()
    (pipeline.folder / "dvc.lock").unlink()
    assert repair(pipeline.folder) == []
    pipeline.dvc("repro", "-q")


def test_half_of_a_file_is_not_set_aside(pipeline: Any) -> None:
    lock, copy = pipeline.folder / "dvc.lock", pipeline.folder / BACKUP
    copy.parent.mkdir(parents=True, exist_ok=True)
    for half in (b"schema: '2.0'\nstages:\n  a", "schema: '2.0'\nstages:\n  ü".encode()[:-1]):
        lock.write_bytes(half)
        keep_lock_file(pipeline.folder)
        assert not copy.exists()


def test_rot_in_dvcs_cache_is_removed_and_the_stage_makes_it_again(pipeline: Any) -> None:
    pipeline.dvc("repro", "-q")
    made = pipeline.folder / "out/table"
    whole = made.read_bytes()
    assert remove_damaged(pipeline.folder) == []
    name = hashlib.md5(whole).hexdigest()
    kept = pipeline.folder / ".dvc/cache/files/md5" / name[:2] / name[2:]
    kept.chmod(0o644)
    kept.write_bytes(whole[:-1] + b"?")
    # DVC trusts what nobody may write.
    kept.chmod(0o444)
    made.write_bytes(kept.read_bytes())
    assert [line.partition(":")[0] for line in remove_damaged(pipeline.folder)] == [
        str(kept.relative_to(pipeline.folder))
    ]
    pipeline.dvc("repro", "-q", "-f", "-s", "table")
    assert made.read_bytes() == kept.read_bytes() == whole


@pytest.mark.parametrize("level", ["--local", "--project"])
def test_a_cache_elsewhere_is_checked_where_dvc_keeps_it(pipeline: Any, level: str, tmp_path: Path) -> None:
    cache = tmp_path / "big cache"
    relative = level == "--project"
    pipeline.dvc("cache", "dir", level, "../big cache" if relative else str(cache))
    pipeline.dvc("repro", "-q")
    made = pipeline.folder / "out/table"
    whole = made.read_bytes()
    name = hashlib.md5(whole).hexdigest()
    kept = cache / "files/md5" / name[:2] / name[2:]
    kept.chmod(0o644)
    kept.write_bytes(b"rotten")
    abandoned, young = kept.with_name(".hj8mSmpBAbfvYrDrGg2qeA.tmp"), kept.with_name(".WxTCv5Oq8b0sQZyoyrU2Eg.tmp")
    abandoned.touch()
    os.utime(abandoned, (0, 0))
    # Another clone may be writing this one.
    young.touch()
    assert repair(pipeline.folder) == []
    done = subprocess.run(
        [sys.executable, "-m", "flows.recovery", "--cache"],
        cwd=pipeline.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines() == [
        f"{cache}: 1 temporary files that DVC left: removed",
        f"{kept}: was damaged, removed; `dvc repro` makes it again if needed",
    ]
    assert not kept.exists()
    assert not abandoned.exists()
    assert young.exists()
    pipeline.dvc("repro", "-q", "-f", "-s", "table")
    assert kept.read_bytes() == whole


def test_a_cache_that_is_not_there_is_said_to_be_unchecked(pipeline: Any, tmp_path: Path) -> None:
    pipeline.dvc("cache", "dir", str(tmp_path / "unplugged"))
    assert remove_damaged(pipeline.folder) == [
        f"{tmp_path / 'unplugged'}: DVC's cache, does not exist; nothing was checked"
    ]


@pytest.mark.parametrize("half", ["", "schema: '2.0'\nsta"])
def test_the_first_lock_file_cut_short_goes(pipeline: Any, half: str) -> None:
    lock = pipeline.folder / "dvc.lock"
    lock.write_text(half)
    assert len(repair(pipeline.folder)) == 1
    assert not lock.exists()
