"""The DVC stages: one thin file each. They read params and inputs, call the library, write outputs."""

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

# OpenMP reads this when torch loads it. Its threads wait by spinning unless told otherwise: a little faster on idle
# cores, several times slower where anything else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# One thread a cell, in NumPy too, whatever the surroundings say: its sums must not depend on the cores.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

# DVC gone, the next run would start this stage a second time. Here and not in `run`: what stages import takes seconds.
if "DVC_STAGE" in os.environ:
    end_with_dvc()


class _WithoutPandas(MetaPathFinder, Loader):
    """Finds pandas, and cannot import it.

    pyarrow wants it with the first array that it makes, and does without. Importing it takes a third of a second.
    """

    def find_spec(self, fullname: str, _path: object, _target: object = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == "pandas" else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        raise ModuleNotFoundError("stages run without pandas", name=spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Never reached. Without it importlib loads in an older way, and the reason is lost."""


def run(main: Callable[..., None], *, pandas: bool = False) -> None:
    """Call `main` with the command line's words; a user's mistake, or a full disk, ends in one line and exit code 1.

    pandas: whether what `main` calls needs it, as statsmodels does.
    """
    # As an exception, so that temporary files are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    words = sys.argv[1:]
    try:
        inspect.signature(main).bind(*words)
    except TypeError as error:
        sys.exit(f"error: {sys.argv[0]}: {error}; `dvc.yaml` shows how the stage is called")
    if not pandas and "pandas" not in sys.modules:
        sys.meta_path.insert(0, _WithoutPandas())
    # Set by DVC, which has written all of its lock file now.
    if "DVC_ROOT" in os.environ:
        keep_lock_file(Path(os.environ["DVC_ROOT"]))
    try:
        main(*words)
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or 'a temporary file'}: {error.strerror or error}; {advice(error)}")
