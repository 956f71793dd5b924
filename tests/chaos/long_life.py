"""Many cycles of `dvc repro` with changing parameters, to find what grows and should not.

    python -m tests.chaos.long_life --cycles 50            # half an hour on an idle machine
    python -m tests.chaos.long_life --cycles 0 --flows 10  # runs of the flow instead
    python -m tests.chaos.long_life --cycles 0 --served 10 # runs that one `python -m flows.serve` begins

Works on a small real benchmark in a temporary folder: one dataset of drawn stand-ins, hog_svc and a narrow crnn. Each
cycle changes a seed, a parameter or the number of images, kills a training so that its checkpoint is left behind, or
restores earlier parameters. Then it runs the benchmark and commits. After each cycle it counts scratch and temporary
files in the repository and in TMPDIR, processes left, peak memory and open files, and the bytes of DVC's cache, its run
cache, its other folders, Git and Prefect. At the end it prints a table and what grew; a CSV file and a plot are
optional. Then each clean-up command is tried on a copy: what it frees, and what still works. Exit code 1 if anything
grew that should not.
"""

import argparse
import csv
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.chaos.clean_up import try_clean_ups
from tests.chaos.footprint import MARK, left_over, marked, size_of, temporaries, watched
from tests.chaos.served import Served
from tests.chaos.small import MODELS, Benchmark

Row = dict[str, Any]

# Relative growth, from the mean of the first third to that of the last.
_MORE_MEMORY = 1.10
_MORE_FILES = 1.25
_MEGA = 1e6
# Short trainings write checkpoints here as well; long ones write one per minute.
_CHECKPOINT_SECONDS = "0.05"


class Life:
    """A benchmark with a separate TMPDIR and a separate folder for DVC's state, and the rows measured so far."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.mark = uuid.uuid4().hex
        self.temporary, self.site = folder / "tmp", folder / "site"
        for path in (self.temporary, self.site):
            path.mkdir(parents=True)
        self.benchmark = Benchmark(
            folder / "benchmark",
            datasets={"numbers6": {"images": 150}},
            matrix={
                "datasets": ["numbers6"],
                "models": ["hog_svc", "crnn"],
                "union": [],
                "tiles": {"datasets": [], "models": []},
                "folds": [0],
            },
            models={name: MODELS[name] for name in ("hog_svc", "crnn")},
            probe={"images": 10},
        )
        self.rows: list[Row] = []
        self._past: list[str] = []

    @property
    def environment(self) -> dict[str, str]:
        """Variables for the commands."""
        own = {"TMPDIR": str(self.temporary), "DVC_SITE_CACHE_DIR": str(self.site), MARK: self.mark}
        return self.benchmark.environment(**own, CAPTCHABENCH_CHECKPOINT_SECONDS=_CHECKPOINT_SECONDS)

    def change(self, cycle: int) -> str:
        """Change params.yaml, in a different way in each cycle. Returns what was changed."""
        params = self.benchmark.params()
        kinds = ("seed", "probe", "hog_svc", "probe", "killed", "probe", "images", "probe", "back", "probe")
        kind = kinds[cycle % len(kinds)]
        if kind == "seed":
            params["training"]["seed"] = 1000 + cycle
        elif kind == "hog_svc":
            params["models"]["hog_svc"]["max_characters"] = 100 + cycle
        elif kind == "probe":
            params["probe"]["images"] = 5 + cycle
        elif kind == "killed":
            params["training"]["seed"] = 1000 + cycle
            self.benchmark.set(**params)
            self._kill_a_training()
            # With another number of steps its checkpoint cannot be used.
            params["models"]["crnn"]["training"]["steps"] = 12 + cycle % 7
        elif kind == "images":
            params["datasets"]["numbers6"]["images"] = 150 + cycle
        else:
            params = json.loads(self.random.choice(self._past))
        self.benchmark.set(**params)
        self._past.append(json.dumps(params))
        return kind

    def cycle(self, number: int, run: Callable[[], int], what: str) -> None:
        """Change, run, commit, measure. run: returns the number of stages that ran."""
        changed = self.change(number)
        started = time.monotonic()
        with watched(self.mark) as watch:
            stages = run()
        seconds = time.monotonic() - started
        self.benchmark.commit(f"{what} {number}: {changed}")
        root = self.benchmark.folder
        self.rows.append(
            {
                "run": f"{what} {number}",
                "changed": changed,
                "stages": stages,
                "seconds": round(seconds, 1),
                "scratch_files": size_of(root / "data/scratch")[0],
                "temporaries": len(temporaries(root)),
                "tmpdir_files": size_of(self.temporary)[0],
                "tmpdir_bytes": size_of(self.temporary)[1],
                "processes_left": len(left_over(self.mark)) if what != "served" else 0,
                "largest_process": watch.largest,
                "all_processes": watch.together,
                "open_files": watch.open_files,
                "processes": watch.processes,
                "cache_files": size_of(root / ".dvc/cache/files")[0],
                "cache_bytes": size_of(root / ".dvc/cache/files")[1],
                "run_cache_files": size_of(root / ".dvc/cache/runs")[0],
                "run_cache_bytes": size_of(root / ".dvc/cache/runs")[1],
                "dvc_tmp_files": size_of(root / ".dvc/tmp")[0],
                "dvc_tmp_bytes": size_of(root / ".dvc/tmp")[1],
                "dvc_site_bytes": size_of(self.site)[1],
                "data_bytes": size_of(root / "data", root / "reports")[1],
                "git_bytes": size_of(root / ".git")[1],
                "prefect_bytes": size_of(root / ".prefect")[1],
            }
        )
        row = self.rows[-1]
        print(
            f"{row['run']:>10}  {changed:8} {stages:3} stages {seconds:6.1f} s  "
            f"largest process {row['largest_process'] / _MEGA:5.0f} MB  cache {row['cache_bytes'] / _MEGA:6.2f} MB  "
            f"scratch {row['scratch_files']}  temporaries {row['temporaries']}+{row['tmpdir_files']}  "
            f"left {row['processes_left']}",
            flush=True,
        )

    def _kill_a_training(self) -> None:
        """Start `dvc repro`, and kill only DVC as soon as a training has a checkpoint."""
        scratch = self.benchmark.folder / "data/scratch"
        command = [sys.executable, "-m", "dvc", "repro"]
        nothing = subprocess.DEVNULL
        process = subprocess.Popen(
            command, cwd=self.benchmark.folder, env=self.environment, stdout=nothing, stderr=nothing
        )
        while process.poll() is None and not size_of(scratch)[0]:
            time.sleep(0.02)
        process.kill()
        process.wait()
        if left := left_over(self.mark):
            raise RuntimeError(f"still there after DVC was killed: {left}")

    def repro(self) -> int:
        """Run `dvc repro`. Returns the number of stages that ran."""
        output = self.benchmark.call(sys.executable, "-m", "dvc", "repro", environment=self.environment).stdout
        return output.count("Running stage '")

    def flow(self) -> int:
        """Run `python -m flows.run`. Returns the number of stages that ran."""
        done = self.benchmark.call(sys.executable, "-m", "flows.run", environment=self.environment, check=False)
        # A run with a regression fails.
        if done.returncode and "significantly worse" not in done.stdout:
            raise RuntimeError(f"python -m flows.run: {done.stdout}\n{done.stderr}")
        return (done.stdout + done.stderr).count("Running stage '")


def grown(rows: Sequence[Row]) -> list[str]:
    """What grew and should not, one line each. Peak memory and files: by the means over thirds of the cycles."""
    result = []
    for row in rows:
        for key in ("scratch_files", "temporaries", "processes_left"):
            if row[key]:
                result.append(f"{row['run']}: {key} {row[key]}")
    third = len(rows) // 3
    if third:
        # The first cycle creates files that are created only once.
        early, late = rows[1 : 1 + third], rows[-third:]
        limits = {"largest_process": _MORE_MEMORY, "open_files": _MORE_FILES, "processes": _MORE_FILES}
        for key, limit in limits.items():
            before, after = (statistics.mean(row[key] for row in part) for part in (early, late))
            if after > limit * before:
                result.append(f"{key}: {before:.0f} in the first third, {after:.0f} in the last")
        for key in ("tmpdir_files", "dvc_tmp_files"):
            if rows[-1][key] > rows[third][key]:
                result.append(f"{key}: {rows[third][key]} after a third, {rows[-1][key]} at the end")
    return result


def table(rows: Sequence[Row]) -> str:
    """Each measure in the first, the middle and the last cycle, and its maximum."""
    picked = (rows[0], rows[len(rows) // 2], rows[-1])
    lines = [f"{'':18}{picked[0]['run']:>14}{picked[1]['run']:>14}{picked[2]['run']:>14}{'most':>14}"]
    for key in rows[0]:
        if key not in ("run", "changed"):
            most = max(row[key] for row in rows)
            lines.append(f"{key:18}" + "".join(f"{value:>14,}" for value in (*(row[key] for row in picked), most)))
    return "\n".join(lines)


def plot(rows: Sequence[Row], path: Path) -> None:
    """Plot bytes and memory over the cycles."""
    import altair as alt

    keys = ("largest_process", "cache_bytes", "run_cache_bytes", "git_bytes", "prefect_bytes", "dvc_site_bytes")
    values = [{"cycle": i, "what": key, "MB": row[key] / _MEGA} for i, row in enumerate(rows) for key in keys]
    chart = alt.Chart(alt.Data(values=values)).mark_line().encode(x="cycle:Q", y="MB:Q")
    chart.properties(width=220, height=140).facet("what:N", columns=3).resolve_scale(y="independent").save(str(path))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cycles. Returns 1 if anything grew that should not."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.long_life", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cycles", type=int, default=50, help="cycles of dvc repro (default: 50)")
    parser.add_argument("--flows", type=int, default=0, help="then runs of the flow, each with its own server")
    parser.add_argument("--served", type=int, default=0, help="then runs that one server starts")
    parser.add_argument("--seed", type=int, default=0, help="seed of the changes (default: 0)")
    parser.add_argument("--output", type=Path, help="a folder for cycles.csv and cycles.png")
    parser.add_argument("--no-clean-up", action="store_true", help="do not try the clean-up commands")
    given = parser.parse_args(argv)
    problems: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="long-life-"))
    try:
        life = Life(folder, given.seed)
        for number in range(given.cycles):
            life.cycle(number, life.repro, "repro")
        problems += _told("dvc repro", life.rows)
        every = list(life.rows)
        for what, count in (("flow", given.flows), ("served", given.served)):
            life.rows = []
            if what == "served" and count:
                with Served(life.benchmark, life.environment) as served:
                    for number in range(count):
                        life.cycle(number, served.run, what)
                        print(f"            the server: {served.footprint()}", flush=True)
                problems += served.grown()
                problems += [f"still running after the server: {line}" for line in left_over(life.mark)]
            else:
                for number in range(count):
                    life.cycle(number, life.flow, what)
            problems += _told(what, life.rows)
            every += life.rows
        if every and given.output:
            _keep(every, given.output)
        if every and not given.no_clean_up:
            try_clean_ups(life.benchmark, life.environment)
    finally:
        for process in marked(life.mark):
            try:
                process.kill()
            except psutil.Error:
                continue
        shutil.rmtree(folder, ignore_errors=True)
    for problem in problems:
        print(f"GREW: {problem}")
    print(f"{len(problems)} measures grew that should not" if problems else "nothing grew that should not")
    return 1 if problems else 0


def _told(what: str, rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    print(f"\n{what}, {len(rows)} cycles\n{table(rows)}\n", flush=True)
    return grown(rows)


def _keep(rows: Sequence[Row], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "cycles.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    plot(rows, folder / "cycles.png")


if __name__ == "__main__":
    sys.exit(main())
