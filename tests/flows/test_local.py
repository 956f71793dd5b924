"""`make repro`: parallel stages without Prefect, its output, and its end when it is killed."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from captchabench.storage.lockfile import entries
from flows import ROOT, local
from flows.durations import keep_seconds, read_seconds
from flows.recovery import run_lock
from tests.flows.watching import alive, await_that, needs_proc


def started(pipeline: Any, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flows.local"],
        cwd=pipeline.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # These tests may run under `nohup`, which changes how a run handles SIGHUP.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        **more,
    )


def run(pipeline: Any) -> tuple[int, str]:
    """The exit code and the output of a run that ends by itself."""
    process = started(pipeline)
    output, _ = process.communicate()
    return process.returncode, output


def test_a_run_gives_the_results_of_dvc_and_leaves_nothing_stale(pipeline: Any, tmp_path: Path) -> None:
    shutil.copytree(pipeline.folder, tmp_path / "plain")
    code, output = run(pipeline)
    assert code == 0, output
    assert sorted(pipeline.ran()) == ["make-a", "make-b", "read-a", "read-b", "table"]
    lines = output.splitlines()
    assert lines[0].startswith("5 stages to run on ")
    assert [re.sub(r"\d+ s\b.*", "", line) for line in lines[-1:]] == ["5 of 5  table  "]
    assert {line.split()[3] for line in lines[1:]} == {"make@a", "make@b", "read@a", "read@b", "table"}
    assert pipeline.dvc("status").strip() == "Data and pipelines are up to date."
    pipeline.dvc("repro")
    assert pipeline.ran() == []
    assert run(pipeline) == (0, "all 5 stages are up to date\n")

    plain = object.__new__(type(pipeline))
    plain.folder = tmp_path / "plain"
    plain.dvc("repro", "-q")
    # Entries are in the order in which their stages ended.
    series, parallel = (entries((one.folder / "dvc.lock").read_text()) for one in (plain, pipeline))
    assert series == parallel
    # Once all entries exist the order is fixed, and DVC would write the same file.
    whole = (pipeline.folder / "dvc.lock").read_bytes()
    pipeline.dvc("repro", "-q", "-f", "-s", "read@a")
    assert (pipeline.folder / "dvc.lock").read_bytes() == whole


def test_only_what_a_change_touches_runs_and_its_entry_keeps_its_place(pipeline: Any) -> None:
    assert run(pipeline)[0] == 0
    pipeline.ran()
    order = re.findall(r"^  \S+:$", (pipeline.folder / "dvc.lock").read_text(), re.MULTILINE)
    pipeline.write("params.yaml", "cells: [a, b]\nsizes: {a: 2, b: 1}\n")
    code, output = run(pipeline)
    assert code == 0, output
    # Its output has the same bytes, so no later stage is stale.
    assert pipeline.ran() == ["make-a"]
    assert "3 of 3  table  up to date" in output
    assert re.findall(r"^  \S+:$", (pipeline.folder / "dvc.lock").read_text(), re.MULTILINE) == order
    # A stage from the cache has no known duration.
    before = read_seconds(pipeline.folder)
    pipeline.write("params.yaml", "cells: [a, b]\nsizes: {a: 1, b: 1}\n")
    code, output = run(pipeline)
    assert "make@a  came from DVC's cache" in output
    assert read_seconds(pipeline.folder) == before


def test_a_failure_is_named_and_stops_what_needs_it_alone(pipeline: Any) -> None:
    pipeline.order("make-a", "print('the last words')\nsys.exit('error: broken; fix it')")
    code, output = run(pipeline)
    assert code == 1
    assert "make@a  FAILED: broken; fix it" in output
    end = output[output.index("make@a: broken; fix it") :]
    assert "    the last words\n" in end
    assert "not run because of that: read@a, table" in end
    assert str(local.LOG) in end
    assert "make@a: the last words" in (pipeline.folder / local.LOG).read_text()
    assert sorted(pipeline.ran()) == ["make-a", "make-b", "read-b"]

    pipeline.order("make-a", "")
    assert run(pipeline)[0] == 0
    assert sorted(pipeline.ran()) == ["make-a", "read-a", "table"]


def test_a_stage_that_was_killed_is_tried_again(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "RETRY_PAUSES", (0.0, 0.0))
    once = "if not os.path.exists('once'):\n    open('once', 'w').close()\n    os.kill(os.getpid(), 9)"
    pipeline.order("make-b", once)
    pipeline.order("read-a", "os.kill(os.getpid(), 9)")
    outcomes = local.run(pipeline.folder, Console(file=io.StringIO()))
    assert outcomes["make@b"].made
    assert outcomes["read@a"].failure == "killed by SIGKILL"
    assert pipeline.ran().count("read-a") == 3
    log = (pipeline.folder / local.LOG).read_text()
    assert log.count("read@a: killed by SIGKILL; the next try is in 0 s") == 2


def test_the_time_left_is_shown_if_it_is_known(pipeline: Any) -> None:
    code, output = run(pipeline)
    assert code == 0
    assert "left" not in output
    pipeline.write("stage.py", (pipeline.folder / "stage.py").read_text() + "# changed\n")
    keep_seconds(pipeline.folder, {"table": 3000})
    code, output = run(pipeline)
    assert re.search(r"1 of 5 .* · about \d+ min left$", output, re.MULTILINE)
    # With another parameter the duration is unknown.
    pipeline.write("params.yaml", "cells: [a, b]\nsizes: {a: 3, b: 3}\n")
    code, output = run(pipeline)
    assert "1 of 5" in output
    assert not re.search("1 of 5 .*left", output)


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_no_process_and_the_next_goes_on(pipeline: Any, number: signal.Signals) -> None:
    pipeline.order("read-a", "open('begun', 'w').close()\ntime.sleep(100)")
    process = started(pipeline, start_new_session=True)
    await_that((pipeline.folder / "begun").exists)
    second = run(pipeline)
    assert second[0] == 1
    assert second[1].startswith("error: another run is at work here (make repro, process ")
    process.send_signal(number)
    output, _ = process.communicate(timeout=300)
    await_that(lambda: not alive(pipeline))
    if number == signal.SIGKILL:
        assert process.returncode == -number
    else:
        assert process.returncode == 130
        assert output.endswith("interrupted; run it again to continue from here\n")
        assert "Traceback" not in output
        with run_lock(pipeline.folder, "ours") as lock:
            assert lock.left_behind == ""

    pipeline.ran()
    pipeline.order("read-a", "")
    assert run(pipeline)[0] == 0
    assert "make-a" not in pipeline.ran()
    assert (pipeline.folder / "out/table").read_text() == "make-aread-amake-bread-btable"


def test_it_needs_neither_prefect_nor_torch_and_says_where_it_has_to_run(tmp_path: Path) -> None:
    code = "import sys, flows.local\nassert not {'prefect', 'torch', 'polars', 'scipy', 'pandas'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    done = subprocess.run(
        [sys.executable, "-m", "flows.local"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "has no dvc.yaml and .dvc; run this in the benchmark's folder" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_hang_up_is_ignored_where_nohup_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        assert local.main([]) == 1
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
