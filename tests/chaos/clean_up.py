"""The commands that clean up a benchmark which has run for long: what each frees, and what is still of use after it."""

import re
import shutil
import sys
from collections import Counter
from collections.abc import Mapping

import yaml

from tests.chaos.footprint import size_of
from tests.chaos.small import Benchmark

_DVC = (sys.executable, "-m", "dvc")
# What is tried, on a copy each.
COMMANDS: dict[str, tuple[str, ...]] = {
    "nothing": ("version",),
    "dvc gc --workspace": ("gc", "--workspace", "--force"),
    "dvc gc --rev HEAD --num 10": ("gc", "--rev", "HEAD", "--num", "10", "--force"),
    "dvc gc --all-commits": ("gc", "--all-commits", "--force"),
}


def growth(benchmark: Benchmark) -> Counter[str]:
    """What the outputs of all commits take in DVC's cache, in bytes by folder: each content once."""
    taken: Counter[str] = Counter()
    seen = set()
    for commit in benchmark.git("log", "--format=%H", "--", "dvc.lock").split():
        stages = yaml.load(benchmark.git("show", f"{commit}:dvc.lock"), yaml.CSafeLoader)["stages"]
        for out in (out for stage in stages.values() for out in stage.get("outs", ())):
            # Git has what is in metrics.
            if out["md5"] not in seen and not out["path"].startswith("metrics/"):
                seen.add(out["md5"])
                taken["/".join(out["path"].split("/")[:2])] += out["size"]
    return taken


def try_clean_ups(benchmark: Benchmark, environment: Mapping[str, str]) -> None:
    """Try each command and print a line of it: bytes before and after, and three uses of the old.

    compare: `captchabench compare` with the commit before, and with the first. checkout: an old commit's outputs by
    `dvc checkout`. repro: how many stages run again at that commit.
    """
    commits = benchmark.git("log", "--format=%H").split()
    first_run = commits[-2]
    print("\nin DVC's cache, by output:")
    for name, size in growth(benchmark).most_common():
        print(f"    {name:24}{size / 1e6:8.2f} MB, {size / max(len(commits) - 1, 1) / 1e6:.2f} MB a cycle")
    print(f"\nclean-up, {len(commits)} commits; old: the first run's")
    for name, words in COMMANDS.items():
        copy = _copied(benchmark)
        before = size_of(copy.folder / ".dvc/cache/files")
        copy.call(*_DVC, *words, environment=environment)
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
    """The verdicts' line, or why there is none; whether any row had to do without the predictions of each image."""
    command = (sys.executable, "-c", "from captchabench.cli.app import app; app()", "compare", commit)
    done = benchmark.call(*command, environment=environment, check=False)
    lines = (done.stdout or done.stderr).strip().splitlines() or [f"exit code {done.returncode}"]
    unpaired = " (unpaired)" if "unpaired" in done.stdout else ""
    return lines[-1].strip() + unpaired


def _stale(benchmark: Benchmark, environment: Mapping[str, str]) -> str:
    ran = benchmark.call(*_DVC, "repro", environment=environment).stdout
    count = len(re.findall("Running stage", ran))
    return f"{count} stages run" if count else "nothing runs"
