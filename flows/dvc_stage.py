"""Runs one DVC stage in a separate process, here or on another machine.

`python -m flows.dvc_stage run STAGE` runs it here and saves its outputs in the run cache. `offer STAGE JOB` writes the
file JOB with what a worker needs to run it, unless there is nothing to run. The worker runs `make JOB RESULT`. Then
`take JOB RESULT` checks out the result here. `send STAGE...` copies results to the remote. The current folder is the
repository's.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException  # type: ignore[import-untyped]
from dvc.repo import lock_repo  # type: ignore[import-untyped]

from captchabench.errors import InputError
from captchabench.git import head
from captchabench.storage.files import advice, write_json
from captchabench.storage.lockfile import put_entry
from flows.runcache import check_clean, entry_text, fetch, find, inputs, open_repository, past_entries, put, save, send

_HERE = Path()


def run(name: str) -> int:
    """Run the stage if it is stale, as `dvc repro --single-item` does, and save its outputs in the run cache.

    DVC takes a second to parse and write all of dvc.lock. Here only the entry of this stage is serialised; the file
    is still replaced as a whole.
    """
    with open_repository(_HERE) as repo, lock_repo(repo), repo.scm_context(quiet=True):
        stage = find(repo, name)
        if stage.reproduce():
            print("Updating lock file 'dvc.lock'", flush=True)
            put_entry(_HERE, name, entry_text(stage))
            repo.stage_cache.save(stage)
    return 0


def offer(name: str, job: str) -> int:
    """Send the inputs of the stage to the remote and write the job file, unless the results already exist."""
    with open_repository(_HERE) as repo:
        with lock_repo(repo):
            if not find(repo, name).changed():
                print(f"Stage '{name}' didn't change, skipping")
                return 0
            needed = inputs(repo, name)
        if _restored(repo, name):
            return 0
        entries = {stage: save(repo, stage) for stage in needed}
        send(repo, list(entries.values()))
        write_json(Path(job), {"commit": head(_HERE), "stage": name, "inputs": entries})
    return 0


def make(job: str, result: str) -> int:
    """Run the stage of a job on its inputs, and send the outputs to the remote."""
    request = json.loads(Path(job).read_bytes())
    name = request["stage"]
    with open_repository(_HERE) as repo:
        _check_clone(repo, request["commit"])
        for needed, entry in request["inputs"].items():
            if not fetch(repo, entry):
                raise InputError(f"the remote lacks the outputs of {needed}; run `dvc push` where they were made")
            put(repo, needed, entry)
        # Another worker may have finished this job and died before it reported.
        _restored(repo, name)
    run(name)
    with open_repository(_HERE) as repo:
        entry = save(repo, name)
        send(repo, [entry])
    write_json(Path(result), entry)
    # Scratch files are removed here, since the stages that remove them otherwise run elsewhere.
    # Imported here: every stage of a flow starts this program, but few run on a worker.
    from stages.scratch import clear_scratch

    clear_scratch(name.partition("@")[2])
    return 0


def take(job: str, result: str) -> int:
    """Check out a worker's result. Raises InputError if it was made from other inputs than those here."""
    name = json.loads(Path(job).read_bytes())["stage"]
    entry = json.loads(Path(result).read_bytes())
    with open_repository(_HERE) as repo:
        if not fetch(repo, entry):
            raise InputError(f"the remote lacks the outputs of {name}; check that the workers use the same remote")
        put(repo, name, entry)
        with lock_repo(repo):
            stage = find(repo, name)
            if stage.changed():
                other = ", ".join(_differing(stage)) or "its command"
                raise InputError(
                    f"{name} was made from other inputs than those here ({other}); remove untracked files that no "
                    "stage makes, there and here"
                )
    return 0


def send_all(*names: str) -> int:
    """Send the results of stages to the remote, so that `dvc repro --pull` finds them on any machine."""
    with open_repository(_HERE) as repo:
        send(repo, [save(repo, name) for name in names])
    return 0


def _restored(repo: Any, name: str) -> bool:
    """Check out the outputs of an earlier run of the stage on the same inputs; return whether there was one."""
    for entry in past_entries(repo, name):
        if fetch(repo, entry):
            put(repo, name, entry)
            print(f"Stage '{name}' ran on these inputs before: its results are checked out", flush=True)
            return True
    return False


def _check_clone(repo: Any, commit: str) -> None:
    if (here := head(_HERE)) != commit:
        raise InputError(f"{_HERE.resolve()} is at {here[:9]}, the run at {commit[:9]}; check that out, `make setup`")
    check_clean(repo)


def _differing(stage: Any) -> list[str]:
    return [str(entry) for entry in (*stage.deps, *stage.outs) if entry.workspace_status()]


_COMMANDS: dict[str, Callable[..., int]] = {"run": run, "offer": offer, "make": make, "take": take, "send": send_all}


def main() -> int:
    """Run the command of the command line; return 1 for an error that the user must fix, else DVC's exit code."""
    try:
        return int(_COMMANDS[sys.argv[1]](*sys.argv[2:]))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except DvcException as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return 255
    except OSError as error:
        print(f"error: {error.filename or 'dvc.lock'}: {error.strerror or error}; {advice(error)}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
