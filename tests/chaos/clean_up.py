"""Commands that clean up a benchmark after many runs: the bytes that each frees, and what still works afterwards."""

import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping

import yaml

from tests.chaos.footprint import size_of
from tests.chaos.small import Benchmark

_DVC = (sys.executable, "-m", "dvc")
# Each is tried on a copy.
COMMANDS: dict[str, tuple[str, ...]] = {
    "nothing": ("version",),
    "dvc gc --workspace": ("gc", "--workspace", "--force"),
    "dvc gc --rev HEAD --num 10": ("gc", "--rev", "HEAD", "--num", "10", "--force"),
    "dvc gc --all-commits": ("gc", "--all-commits", "--force"),
}


def growth(benchmark: Benchmark) -> Counter[str]:
    """Bytes of the outputs of all commits in DVC's cache, by folder. Each content counts once."""
    sizes: Counter[str] = Counter()
    seen = set()
    for commit in benchmark.git("log", "--format=%H", "--", "dvc.lock").split():
        stages = yaml.load(benchmark.git("show", f"{commit}:dvc.lock"), yaml.CSafeLoader)["stages"]
        for out in (out for stage in stages.values() for out in stage.get("outs", ())):
            # The files in metrics are in Git.
            if out["md5"] not in seen and not out["path"].startswith("metrics/"):
                seen.add(out["md5"])
                sizes["/".join(out["path"].split("/")[:2])] += out["size"]
    return sizes


def try_clean_ups(benchmark: Benchmark, environment: Mapping[str, str]) -> None:
    """Try each command and print the bytes before and after, and whether old results can still be used.

    Three uses are tried: `captchabench compare` with the previous and the first commit, `dvc checkout` of the first
    commit's outputs, and `dvc repro` at that commit, with the number of stages that run again.
    """
    commits = benchmark.git("log", "--format=%H").split()
    first_run = commits[-2]
    print("\nin DVC's cache, by output:")
    for name, size in growth(benchmark).most_common():
        print(f"    {name:24}{size / 1e6:8.2f} MB, {size / max(len(commits) - 1, 1) / 1e6:.2f} MB per cycle")
    print(f"\nclean-up, {len(commits)} commits; old: the first run's")
    for name, arguments in COMMANDS.items():
        copy = _copied(benchmark)
        before = size_of(copy.folder / ".dvc/cache/files")
        copy.call(*_DVC, *arguments, environment=environment)
        after = size_of(copy.folder / ".dvc/cache/files")
        runs = size_of(copy.folder / ".dvc/cache/runs")
        print(
            f"{name:28} cache {before[1] / 1e6:7.2f} -> {after[1] / 1e6:7.2f} MB, {before[0]} -> {after[0]} files; "
            f"run cache {runs[1] / 1e6:.2f} MB, {runs[0]} files",
            flush=True,
        )
        for label, commit in (("the commit before", commits[1]), ("the old one", first_run)):
            print(f"    compare with {label}: {_compared(copy, commit, environment)}", flush=True)
        print(f"    fresh here: {_stale(copy, environment)}", flush=True)
        copy.git("checkout", "-q", "--force", first_run)
        back = copy.call(*_DVC, "checkout", "--force", environment=environment, check=False)
        print(f"    dvc checkout of the old: {'all there' if back.returncode == 0 else 'files missing'}", flush=True)
        ran = copy.call(*_DVC, "repro", environment=environment).stdout
        print(f"    dvc repro of the old: {len(re.findall('Running stage', ran))} stages run", flush=True)
        shutil.rmtree(copy.folder)


def _copied(benchmark: Benchmark) -> Benchmark:
    made = object.__new__(Benchmark)
    made.folder = benchmark.folder.with_name("copy")
    shutil.copytree(benchmark.folder, made.folder, symlinks=True)
    return made


def _compared(benchmark: Benchmark, commit: str, environment: Mapping[str, str]) -> str:
    """The line with the verdicts, or the error; with "(unpaired)" if predictions were missing for a row."""
    command = (sys.executable, "-c", "from captchabench.cli.app import app; app()", "compare", commit)
    done = benchmark.call(*command, environment=environment, check=False)
    lines = (done.stdout or done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
    unpaired = " (unpaired)" if "unpaired" in done.stdout else ""
    return lines[-1].strip() + unpaired


def _stale(benchmark: Benchmark, environment: Mapping[str, str]) -> str:
    ran = benchmark.call(*_DVC, "repro", environment=environment).stdout
    count = len(re.findall("Running stage", ran))
    return f"{count} stages run" if count else "nothing runs"
