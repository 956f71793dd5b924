"""Runs stages one after the other, each in a fork of a process that has all imports: these take most of a stage's time.

Reads lines of JSON, ["MODULE", "ARGUMENT", ...], and answers each with one line: the exit code and the last line that
was printed. Libraries start their threads at first use, so there are none before a fork. OpenBLAS starts its threads at
once, but handles forks.
"""

import json
import os
import runpy
import sys
import tempfile
import traceback

import cv2  # noqa: F401
import pandas  # noqa: F401
import polars  # noqa: F401
import pyarrow.parquet  # noqa: F401
import sklearn.svm  # noqa: F401
import statsmodels.stats.proportion  # noqa: F401
import timm  # noqa: F401
import torch  # noqa: F401

import captchabench.models  # noqa: F401


def main() -> None:
    """Serve requests until the input ends."""
    for line in sys.stdin:
        module, *arguments = json.loads(line)
        with tempfile.TemporaryFile() as output:
            if (child := os.fork()) == 0:
                os.dup2(output.fileno(), 1)
                os.dup2(output.fileno(), 2)
                os._exit(_run(module, arguments))
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            output.seek(0)
            last = (output.read().decode(errors="replace").strip().splitlines() or [""])[-1]
        print(json.dumps([code, last]), flush=True)


def _run(module: str, arguments: list[str]) -> int:
    sys.argv = [module, *arguments]
    code: object = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    main()
