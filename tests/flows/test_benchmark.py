"""The flow on a small pipeline: which stages run, and the final state."""

import argparse
import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from captchabench.errors import InputError
from flows import benchmark as flow
from flows import tasks
from flows.fixed import fix

Run = Callable[..., State[Any]]


# The pipeline has no leaderboard. test_publish.py tests what is published.
@pytest.fixture(autouse=True)
def _nothing_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "publish", lambda *_: [])
    monkeypatch.setattr(tasks, "run_stage", tasks.run_stage.with_options(retry_delay_seconds=0.1))


def message_of(state: State[Any]) -> str:
    assert state.message is not None
    return state.message


@pytest.fixture
def run(pipeline: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the flow in the pipeline's folder."""
    monkeypatch.setattr(flow, "ROOT", pipeline.folder)
    return partial(flow.benchmark, return_state=True)


def test_everything_runs_once_and_then_nothing(pipeline: Any, run: Run) -> None:
    state = run()
    assert state.is_completed(), state.message
    assert sorted(pipeline.ran()) == ["make-a", "make-b", "read-a", "read-b", "table"]
    assert pipeline.dvc("status").strip() == "Data and pipelines are up to date."
    state = run()
    assert state.message == "0 stages run, 5 up to date"
    assert pipeline.ran() == []


def test_a_change_runs_what_it_touches(pipeline: Any, run: Run) -> None:
    run()
    pipeline.ran()
    pipeline.write("params.yaml", "cells: [a, b]\nsizes: {a: 2, b: 1}\n")
    state = run()
    # Its output is the same as before, so DVC skips the rest.
    assert pipeline.ran() == ["make-a"]
    assert state.message == "1 stages run, 4 up to date"


def test_a_mistake_stops_only_its_dependents_and_is_not_retried(pipeline: Any, run: Run) -> None:
    pipeline.order("make-a", "sys.exit('error: sizes.a: must be at least 2; is 1')")
    state = run()
    assert state.is_failed()
    assert sorted(pipeline.ran()) == ["make-a", "make-b", "read-b"]
    first, *rest = message_of(state).splitlines()
    assert first == "make@a: sizes.a: must be at least 2; is 1"
    assert "    error: sizes.a: must be at least 2; is 1" in rest
    assert rest[-1] == "not run because of that: read@a, table"
    # Once it is fixed, the rest runs, and nothing runs twice.
    pipeline.order("make-a", "")
    assert run().is_completed()
    assert sorted(pipeline.ran()) == ["make-a", "read-a", "table"]


def test_transient_failures_are_retried(pipeline: Any, run: Run) -> None:
    pipeline.order(
        "read-a",
        """
        share = os.environ.get("CAPTCHABENCH_MEMORY_SHARE", "1")
        with open("shares.txt", "a") as log:
            log.write(share + " ")
        if share == "1":
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        """,
    )
    pipeline.order(
        "read-b",
        """
        import signal
        if not os.path.exists("killed"):
            open("killed", "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        assert "CAPTCHABENCH_MEMORY_SHARE" not in os.environ
        """,
    )
    assert run().is_completed()
    assert sorted(pipeline.ran()) == ["make-a", "make-b", "read-a", "read-a", "read-b", "read-b", "table"]
    # After a full GPU the next try may use half of its memory.
    assert (pipeline.folder / "shares.txt").read_text() == "1 0.5 "


def test_a_stage_is_stopped_when_its_time_is_up(pipeline: Any, run: Run) -> None:
    text = (pipeline.folder / "dvc.yaml").read_text()
    pipeline.write("dvc.yaml", text.replace("time_limit: 600", "time_limit: 8"))
    pipeline.order("read-a", "time.sleep(600)")
    state = run()
    # On a busy machine others may be stopped as well.
    assert "read@a: not done after 8 s\n" in message_of(state)
    assert pipeline.ran().count("read-a") <= 1


def test_one_model_alone(pipeline: Any, run: Run) -> None:
    assert run(only=["a"]).is_completed()
    assert sorted(pipeline.ran()) == ["make-a", "read-a"]
    state = run(only=["c"])
    assert state.is_failed()
    assert "no stage has c in its matrix" in message_of(state)


def test_results_go_to_the_branch_that_was_set_before(pipeline: Any, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "a")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@example.org")
    assert run().is_completed()
    pipeline.ran()
    pipeline.order("make-b", "os.unlink('ran.txt')")
    pipeline.write("params.yaml", "cells: [a, b]\nsizes: {a: 1, b: 2}\n")
    pipeline.call("git", "add", "-A")
    pipeline.call("git", "commit", "-qm", "other parameters")

    monkeypatch.setattr("flows.fixed.ROOT", pipeline.folder)
    monkeypatch.setenv("CAPTCHABENCH_COMMIT_TO", "of-an-earlier-start")
    fix(argparse.Namespace(commit_to="results", workers=None, insecure=False))
    state = run()
    assert state.is_completed(), state.message
    assert "out/read-a" in pipeline.call("git", "ls-tree", "-r", "--name-only", "results")
    with pytest.raises(InputError, match="'a b' is not a valid branch name"):
        fix(argparse.Namespace(commit_to="a b", workers=None, insecure=False))
    with pytest.raises(InputError, match="without TLS"):
        fix(argparse.Namespace(commit_to=None, workers="tcp://192.0.2.1:8786", insecure=False))


def test_a_file_changed_by_hand_stops_a_run_that_is_to_commit_before_its_first_stage(
    pipeline: Any, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "a")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "a@example.org")
    pipeline.call("git", "add", "-A")
    pipeline.call("git", "commit", "-qm", "first")
    pipeline.write("notes.md", "by hand")
    monkeypatch.setenv("CAPTCHABENCH_COMMIT_TO", "results")
    state = run()
    assert state.is_failed()
    assert message_of(state) == "notes.md: changed, but not by a stage; commit or undo it, then run again"
    assert pipeline.ran() == []


def test_a_folder_without_git_is_one_line(pipeline: Any, run: Run) -> None:
    shutil.rmtree(pipeline.folder / ".git")
    state = run()
    assert state.is_failed()
    assert "is not in a Git repository; DVC needs one: `git init`" in message_of(state)
