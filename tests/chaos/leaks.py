"""Runs DVC and Prefect with a planted Kaggle token, then searches everything that was written for it.

    python -m tests.chaos.leaks            # every answer of the server and every place of a token: 5 minutes

Kaggle is a fake server on this machine; nothing leaves it. Each try has a separate home folder and a small benchmark,
with all logs at their most verbose. `dvc repro -v ingest@numbers6` is tried with each answer of the server and each
place of the token. Two whole flow runs, with a good and a bad answer, commit their results.

The search covers all files of the repository, DVC's cache, unpacked Git objects, a dump of Prefect's database, Parquet
columns, the client's cache, temporary files and all output. It looks for the token and the proxy's password: plain,
quoted, in hexadecimal and in base64. While a request is pending it also reads all command lines. Exit code 1 if
anything was found.
"""

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.chaos.fake_kaggle import ANSWERS, GOOD, PLACES, Kaggle, keep_in, serving
from tests.chaos.planted import forms, leaks, leaks_in_git
from tests.chaos.small import Benchmark

USER, SECRET, PASSWORD = "planteduser", "plantedKEY0123456789abcdef", "plantedPROXYpassword98765"
WANTED = [*forms(USER, SECRET), *forms("someone", PASSWORD)]
_FROM_OUTSIDE = ("KAGGLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "PREFECT", "DVC")


class Try:
    """A benchmark with a token in one place, which writes everything to one folder."""

    def __init__(self, folder: Path, place: str, kaggle: Kaggle) -> None:
        self.folder = folder
        self.home = folder / "home"
        for name in ("home", "tmp", "printed"):
            (folder / name).mkdir(parents=True)
        self.benchmark = Benchmark(
            folder / "benchmark",
            data={"source": "kaggle", "downloads": "data/downloads", "seed": 0},
            datasets={"numbers6": {"images": "all"}},
            matrix={
                "datasets": ["numbers6"],
                "models": ["dummy"],
                "union": [],
                "tiles": {"datasets": [], "models": []},
                "folds": [0],
            },
            models={"dummy": {}},
            probe={"images": 5},
        )
        loud = {
            "KAGGLEHUB_VERBOSITY": "debug",
            "KAGGLE_LOGGING_ENABLED": "1",
            "PREFECT_LOGGING_LEVEL": "DEBUG",
            "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG",
            "PREFECT_SERVER_LOGGING_LEVEL": "DEBUG",
        }
        places = {"TMPDIR": str(folder / "tmp"), "DVC_SITE_CACHE_DIR": str(folder / "site")}
        planted = keep_in(place, self.home, USER, SECRET)
        # The token belongs there.
        self.kept = [path for path in self.home.rglob("*") if path.is_file()]
        self.environment = self.benchmark.environment(**kaggle.environment(PASSWORD), **planted, **loud, **places)

    def call(self, *command: str) -> int:
        """Run a command, keep its output, and return its exit code."""
        done = self.benchmark.call(*command, environment=self.environment, check=False)
        number = len(list((self.folder / "printed").iterdir()))
        (self.folder / f"printed/{number}").write_text(done.stdout + done.stderr)
        return done.returncode

    def found(self) -> list[str]:
        """The places where a secret was found and does not belong."""
        self.benchmark.commit("all that there is")
        return leaks([self.folder], WANTED, self.kept) + leaks_in_git(self.benchmark.folder, WANTED)


def command_lines(wanted: Sequence[bytes]) -> list[str]:
    """The running processes whose command line contains a secret."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if any(form in path.read_bytes() for form in wanted):
                found.append(f"{path}: the command line")
    return found


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="leaks-"))
    try:
        yield folder / "try"
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Try everything and print what was found. Returns 1 if anything was."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos.leaks", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--no-flows", action="store_true", help="leave out the two flow runs, which take a minute each")
    given = parser.parse_args(argv)
    for name in [name for name in os.environ if name.upper().startswith(_FROM_OUTSIDE)]:
        del os.environ[name]
    tries = [("dvc", place, "zip") for place in PLACES]
    tries += [("dvc", PLACES[i % len(PLACES)], answer) for i, answer in enumerate(ANSWERS) if answer != "zip"]
    if not given.no_flows:
        tries += [("flow", "KAGGLE_USERNAME and KAGGLE_KEY", "zip"), ("flow", "KAGGLE_API_TOKEN", "401")]
    problems: list[str] = []
    files = 0
    with serving() as kaggle:
        kaggle.watch = lambda: problems.extend(command_lines(WANTED))
        for how, place, answer in tries:
            kaggle.answer = answer
            kaggle.seen.clear()
            with _folder() as folder:
                attempt = Try(folder, place, kaggle)
                if how == "dvc":
                    code = attempt.call(sys.executable, "-m", "dvc", "repro", "-v", "ingest@numbers6")
                else:
                    code = attempt.call(sys.executable, "-m", "flows.run", "--commit-to", "results")
                found = attempt.found()
                count = sum(path.is_file() for path in folder.rglob("*"))
            shown = {host for host, headers in kaggle.seen if any(f.decode() in str(headers) for f in WANTED[:6])}
            wrong = [] if (code == 0) == (answer in GOOD) else [f"exit code {code}"]
            # A search without results is only meaningful if the token was used.
            wrong += [] if "localhost" in shown else ["the token was not used"]
            wrong += [f"the token was shown to {host}" for host in sorted(shown - {"localhost"})]
            files += count
            told = "; ".join(wrong + found) or "nothing found"
            print(f"{how:4}  {answer:16} {place:38} {count:5} files  {told}", flush=True)
            problems += wrong + found
    print(f"\n{len(tries)} tries, {files} files, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
