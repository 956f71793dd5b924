"""The DVC stages, one thin file each: they read params.yaml and their inputs, call the library and write outputs."""

import inspect
import os
import signal
import sys
from collections.abc import Callable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from captchabench.errors import InputError
from captchabench.orphans import end_with_dvc
from captchabench.storage.files import advice
from captchabench.storage.lockfile import keep_lock_file

# OpenMP reads this when torch loads it. By default its threads wait by spinning: slightly faster on idle cores, several
# times slower on busy ones.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# One thread per cell, in NumPy as well, whatever the environment says: sums must not depend on the number of cores.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

# A stage must not outlive DVC: the next run would start it a second time. Called here and not in `run`, since the
# imports of a stage take seconds.
if "DVC_STAGE" in os.environ:
    end_with_dvc()

# The stages of dvc.yaml that depend on a folder with the outputs of all cells or datasets.
READ_WHOLE_FOLDERS = frozenset(
    {
        "audit",
        "calibration",
        "carry",
        "latency",
        "leaderboard",
        "predict-union",
        "probe",
        "probes",
        "report",
        "score",
        "suspects",
        "train-union",
    }
)


class _WithoutPandas(MetaPathFinder, Loader):
    """Makes imports of pandas fail.

    pyarrow tries to import pandas for its first array and works without it. The import takes a third of a second.
    """

    def find_spec(self, fullname: str, _path: object, _target: object = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == "pandas" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        raise ModuleNotFoundError("stages run without pandas", name=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Never called. Without this method importlib uses an older protocol, and the reason is lost."""


def run(main: Callable[..., None], *, pandas: bool = False) -> None:
    """Call `main` with the command line's arguments. A user's mistake or a full disk ends in one line and exit code 1.

    Under DVC, a backup of dvc.lock is saved first, and outputs of dropped cells are removed from the folders that the
    stage depends on. pandas: whether `main` needs it, as statsmodels does.
    """
    # As an exception, so that temporary files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    arguments = sys.argv[1:]
    try:
        inspect.signature(main).bind(*arguments)
    except TypeError as error:
        sys.exit(f"error: {sys.argv[0]}: {error}; `dvc.yaml` shows how the stage is called")
    if not pandas and "pandas" not in sys.modules:
        sys.meta_path.insert(0, _WithoutPandas())
    # Set by DVC, which has finished writing its lock file by the time it starts a stage.
    if "DVC_ROOT" in os.environ:
        keep_lock_file(Path(os.environ["DVC_ROOT"]))
    try:
        if _stage_name() in READ_WHOLE_FOLDERS:
            # Imported here: the other stages need none of it.
            from stages.leftovers import remove_leftovers

            remove_leftovers()
        main(*arguments)
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or 'a temporary file'}: {error.strerror or error}; {advice(error)}")


def _stage_name() -> str:
    """The name of the running stage in dvc.yaml, without its cell or dataset; empty where DVC did not start it."""
    # "train-union@union-crnn-0"; from another folder than the repository's, "../dvc.yaml:train-union@union-crnn-0".
    return os.environ.get("DVC_STAGE", "").rpartition(":")[2].partition("@")[0]
