"""One stage of DVC's in a process of its own: run here, or handed to another machine and back.

`python -m flows.dvc_stage run STAGE` runs it and keeps what it made in the run cache. `offer STAGE JOB` says in the
file JOB what a worker needs to run it, unless there is nothing to run; `make JOB RESULT` is that worker's part, and
`take JOB RESULT` puts the result in its place. `send STAGE...` copies results to the remote. The current
folder is the repository's.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException  # type: ignore[import-untyped]
from dvc.repo import lock_repo  # type: ignore[import-untyped]

from captchabench.errors import InputError
from captchabench.storage.files import advice, write_json
from captchabench.storage.lockfile import put_entry
from flows.commit import head
from flows.runcache import check_clean, entry_text, fetch, find, inputs, known, opened, put, save, send

_HERE = Path()


def run(name: str) -> int:
    """Run the stage if it is stale, as `dvc repro --single-item` does, and keep what it made in the run cache.

    dvc.lock is not parsed and written anew for one entry, which takes DVC a second: the entry alone is, and the
    file is replaced whole.
    """
    with opened(_HERE) as repo, lock_repo(repo), repo.scm_context(quiet=True):
        stage = find(repo, name)
        if stage.reproduce():
            print("Updating lock file 'dvc.lock'", flush=True)
            put_entry(_HERE, name, entry_text(stage))
            repo.stage_cache.save(stage)
    return 0


def offer(name: str, job: str) -> int:
    """Send what the stage needs to the remote, and write the job; none where the results are at hand."""
    with opened(_HERE) as repo:
        with lock_repo(repo):
            if not find(repo, name).changed():
                print(f"Stage '{name}' didn't change, skipping")
                return 0
            needed = inputs(repo, name)
        if _restored(repo, name):
            return 0
        entries = {one: save(repo, one) for one in needed}
        send(repo, list(entries.values()))
        write_json(Path(job), {"commit": head(_HERE), "stage": name, "inputs": entries})
    return 0


def make(job: str, result: str) -> int:
    """Run the stage from the inputs that the job names, and send what it made."""
    given = json.loads(Path(job).read_bytes())
    name = given["stage"]
    with opened(_HERE) as repo:
        _check_clone(repo, given["commit"])
        for needed, entry in given["inputs"].items():
            if not fetch(repo, entry):
                raise InputError(f"the remote lacks what {needed} made; `dvc push` where it was made")
            put(repo, needed, entry)
        # Whoever had this job before may have ended it, and died then.
        _restored(repo, name)
    run(name)
    with opened(_HERE) as repo:
        entry = save(repo, name)
        send(repo, [entry])
    write_json(Path(result), entry)
    # What it was made of on the way: the stages that clear that up run elsewhere.
    # Imported here: every stage of a flow starts this program, few of them on a worker.
    from stages.scratch import clear_scratch

    clear_scratch(name.partition("@")[2])
    return 0


def take(job: str, result: str) -> int:
    """Put what a worker made in its place. Raises InputError if that was not made from what is here."""
    name = json.loads(Path(job).read_bytes())["stage"]
    entry = json.loads(Path(result).read_bytes())
    with opened(_HERE) as repo:
        if not fetch(repo, entry):
            raise InputError(f"the remote lacks what {name} made; see that the workers have the same one")
        put(repo, name, entry)
        with lock_repo(repo):
            stage = find(repo, name)
            if stage.changed():
                other = ", ".join(_differing(stage)) or "its command"
                raise InputError(
                    f"{name} was made from something else than is here ({other}); remove what no stage makes and "
                    "Git does not know, there and here"
                )
    return 0


def send_all(*names: str) -> int:
    """Send the results of stages, so that `dvc repro --pull` finds them anywhere."""
    with opened(_HERE) as repo:
        send(repo, [save(repo, name) for name in names])
    return 0


def _restored(repo: Any, name: str) -> bool:
    """Whether somebody has made the stage from these inputs before: then its outputs are in their place."""
    for entry in known(repo, name):
        if fetch(repo, entry):
            put(repo, name, entry)
            print(f"Stage '{name}' was made before: its results are in their place", flush=True)
            return True
    return False


def _check_clone(repo: Any, commit: str) -> None:
    if (own := head(_HERE)) != commit:
        raise InputError(f"{_HERE.resolve()} is at {own[:9]}, the run at {commit[:9]}; check that out, `make setup`")
    check_clean(repo)


def _differing(stage: Any) -> list[str]:
    return [str(entry) for entry in (*stage.deps, *stage.outs) if entry.workspace_status()]


_COMMANDS: dict[str, Callable[..., int]] = {"run": run, "offer": offer, "make": make, "take": take, "send": send_all}


def main() -> int:
    """Do what the command line says; DVC's exit codes, 1 for what a person has to mend."""
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
