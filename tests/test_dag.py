"""The whole DAG in a temporary repository, run by `make repro` and by DVC: what a change reruns, and what DVC shows."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from captchabench.datasets import DATASETS
from flows.local import LOG

ROOT = Path(__file__).parents[1]

TRAINING = ("train", "train-union")
# Far longer than any command takes on a busy machine.
_HANG_SECONDS = 1200

SECOND_MODEL = '''
"""Another model. It takes this file and a line in params.yaml."""
from captchabench.models import RECOGNISERS
from captchabench.models.dummy import Dummy


@RECOGNISERS.register
class Second(Dummy):
    """The dummy under another name."""
'''


class Repository:
    """A copy of the benchmark with two datasets and two models that need no training."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ignore = shutil.ignore_patterns("__pycache__")
        for name in ("captchabench", "flows", "results", "stages"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        (folder / "data/downloads").mkdir(parents=True)
        (folder / "captchabench/models/second.py").write_text(SECOND_MODEL)
        for name in ("dvc.yaml", "params.yaml", ".gitignore", ".dvcignore"):
            shutil.copy(ROOT / name, folder / name)
        self.set_params(
            datasets={"fournierp": {"images": 80}, "grid": {"images": 500}, "numbers6": {"images": 90}},
            matrix={
                "datasets": ["fournierp", "numbers6"],
                "models": ["dummy", "second"],
                "union": ["dummy"],
                "tiles": {"datasets": ["grid"], "models": ["dummy"]},
                "folds": [0],
            },
            models={"dummy": {}, "second": {}},
        )
        self.git("init", "-q")
        self.dvc("init", "-q")
        shutil.copy(ROOT / ".dvc/config", folder / ".dvc/config")

    def set_params(self, **sections: object) -> None:
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**params, **sections}))

    def run(self, *command: str) -> str:
        environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "GIT_AUTHOR_NAME": "a",
            "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "a",
            "GIT_COMMITTER_EMAIL": "a@example.org",
            "DVC_NO_ANALYTICS": "1",
        }
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=_HANG_SECONDS,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments)

    def dvc(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def repro(self, *targets: str) -> set[str]:
        """Run `dvc repro`, of `targets` if any are given; return the stages that ran."""
        return set(re.findall(r"Running stage '([^']+)'", self.dvc("repro", *targets)))

    def make_repro(self) -> set[str]:
        """Run what `make repro` runs; return the stages that ran."""
        self.run(sys.executable, "-m", "flows.local")
        return set(re.findall(r"Running stage '([^']+)'", (self.folder / LOG).read_text()))

    def metrics(self) -> dict[str, dict[str, float]]:
        """What each file of DVC's metrics holds."""
        files = (self.folder / "metrics/summary").rglob("*.json")
        return {file.relative_to(self.folder).as_posix(): json.loads(file.read_text()) for file in files}

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-qm", message)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The benchmark after its first run, committed."""
    repository = Repository(tmp_path_factory.mktemp("benchmark"))
    ran = repository.make_repro()
    assert {"ingest@fournierp", "train@numbers6-second-0", "train-union@union-dummy-0", "report"} <= ran
    assert {"ingest-tiles@grid", "normalize-tiles@grid", "predict-tiles@grid-dummy-0", "score"} <= ran
    repository.commit("first run")
    return repository


def cells(ran: set[str], stage: str) -> set[str]:
    return {name.split("@")[1] for name in ran if name.split("@")[0] in (stage, f"{stage}-union")}


def test_a_first_run_writes_everything_and_a_second_run_does_nothing(repository: Repository) -> None:
    board = (repository.folder / "metrics/leaderboard.csv").read_text().splitlines()
    rows = {tuple(line.split(",")[:1]) for line in board[1:]}
    assert {("fournierp",), ("grid",), ("numbers6",), ("union",)} <= rows
    classes = (repository.folder / "metrics/classes.csv").read_text().splitlines()
    assert [line.split(",")[3] for line in classes[1:]] == list(DATASETS["grid"].class_names)
    assert (repository.folder / "reports/index.html").stat().st_size > 1000
    assert repository.repro() == set()
    assert json.loads(repository.dvc("status", "--json")) == {}
    assert repository.git("status", "--porcelain") == ""


def test_a_finished_run_is_published_and_shown(repository: Repository) -> None:
    folder, overlay = repository.folder, repository.folder / "results/small.yaml"
    publish = (sys.executable, "-m", "captchabench", "publish", "small")
    overlay.write_text("# Eighty drawn images <&>.\nmatrix: {folds: [0, 1]}\n")
    with pytest.raises(AssertionError, match=r"params\.yaml: matrix\.folds is not as in results/small\.yaml"):
        repository.run(*publish)
    overlay.write_text("# Eighty drawn images <&>.\nmatrix: {folds: [0]}\n")
    code = folder / "flows/local.py"
    committed = code.read_text()
    code.write_text(committed + "\n")
    with pytest.raises(AssertionError, match=r"flows/local\.py: differs from the commit; commit it first"):
        repository.run(*publish)
    code.write_text(committed)
    repository.run(*publish)
    board = (folder / "metrics/leaderboard.csv").read_text().splitlines()
    table = (folder / "results/small.csv").read_text()
    assert [line.split(",")[:8] for line in table.splitlines()] == [line.split(",")[:8] for line in board]
    assert "train_seconds" not in table
    record = json.loads((folder / "results/small.json").read_text())
    assert record["commit"] == repository.git("rev-parse", "HEAD").strip()
    assert record["parameters"]["datasets"]["fournierp"] == {"images": 80}
    assert {cell["model"] for cell in record["cells"]} == {"dummy", "second"}
    assert repository.repro() == {"report"}
    assert "Eighty drawn images &lt;&amp;&gt;." in (folder / "reports/index.html").read_text()
    # A second time, with a page that does not know of it, and the same bytes.
    repository.run(*publish)
    assert (folder / "results/small.csv").read_text() == table
    (folder / "params.yaml").write_text((folder / "params.yaml").read_text().replace("seed: 0", "seed: 1"))
    with pytest.raises(AssertionError, match=r"stages are not up to date"):
        repository.run(*publish)
    for command in (("checkout", "-q", "."), ("clean", "-qfd", "results")):
        repository.git(*command)
    # The page of before comes from the cache.
    assert repository.repro() == set()
    assert repository.git("status", "--porcelain") == ""


def test_a_models_parameter_reruns_its_cells_only_and_the_diff_shows_them(repository: Repository) -> None:
    before = repository.metrics()
    repository.set_params(models={"dummy": {"rank": 2}, "second": {}})
    ran = repository.repro()
    repository.commit("another rank for the dummy")
    dummy_cells = {"fournierp-dummy-0", "numbers6-dummy-0", "union-dummy-0"}
    for stage in ("train", "predict"):
        assert cells(ran, stage) == dummy_cells
    assert {"probe", "score"} <= ran
    assert not {name for name in ran if name.startswith(("ingest", "normalize", "audit"))}

    diff = json.loads(repository.dvc("metrics", "diff", "--json", "HEAD~1"))
    assert {Path(file).stem for file in diff} == {"dummy"}
    after = repository.metrics()
    for file, changed in diff.items():
        for metric, values in changed.items():
            assert values["old"] == before[file][metric]
            assert values["new"] == after[file][metric]
    assert [after[file] == before[file] for file in after if Path(file).stem == "second"] == [True, True]


def test_dvc_shows_the_metrics_as_one_line_per_row_of_the_leaderboard(repository: Repository) -> None:
    board = (repository.folder / "metrics/leaderboard.csv").read_text().splitlines()
    head, _, *lines = repository.dvc("metrics", "show", "--md").strip().splitlines()
    assert len(lines) == len(board) - 1
    assert {"exact", "cer", "n"} <= {name.strip() for name in head.split("|")}
    shown = {line.split("|")[1].strip() for line in lines}
    assert {"metrics/summary/numbers6/second.json", "metrics/summary/union/numbers6/dummy.json"} <= shown


def test_compare_joins_the_predictions_of_both_commits(repository: Repository) -> None:
    command = ("-c", "from captchabench.cli.app import app; app()", "compare", "HEAD~1", "HEAD", "--format", "json")
    rows = json.loads(repository.run(sys.executable, *command))["rows"]
    diff = json.loads(repository.dvc("metrics", "diff", "--all", "--json", "HEAD~1", "HEAD"))
    assert {(row["dataset"], row["model"]) for row in rows} >= {("union", "dummy"), ("union/numbers6", "dummy")}
    assert {row["test"] for row in rows} == {"paired"}
    for row in rows:
        for metric in ("exact", "cer", "n"):
            values = diff[f"metrics/summary/{row['dataset']}/{row['model']}.json"][metric]
            assert (row["old"][metric], row["new"][metric]) == (values["old"], values["new"])


def test_a_scoring_change_never_retrains(repository: Repository) -> None:
    path = repository.folder / "captchabench/scoring/metrics.py"
    path.write_text(f"{path.read_text()}\n# changed\n")
    ran = repository.make_repro()
    assert {"calibration", "leaderboard", "probes", "score"} <= ran
    upstream = ("ingest", "normalize", "audit", "train", "predict")
    assert not {name for name in ran if name.startswith(upstream) or name == "probe"}


def test_a_missing_cell_is_named(repository: Repository) -> None:
    cell = repository.folder / "metrics/cells/numbers6-second-0.json"
    kept = cell.read_bytes()
    cell.unlink()
    done = subprocess.run(
        [sys.executable, "-m", "stages.leaderboard"],
        cwd=repository.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    cell.write_bytes(kept)
    assert done.returncode == 1
    assert "numbers6-second-0" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_models_file_reruns_its_cells_only(repository: Repository) -> None:
    path = repository.folder / "captchabench/models/second.py"
    path.write_text(f"{path.read_text()}\n# changed\n")
    ran = repository.repro(*TRAINING)
    assert cells(ran, "train") == {"fournierp-second-0", "numbers6-second-0"}
    assert not {name for name in ran if name.startswith(("ingest", "normalize", "audit"))}


def test_a_data_change_reruns_its_dataset_and_the_union(repository: Repository) -> None:
    repository.set_params(datasets={"fournierp": {"images": 85}, "grid": {"images": 500}, "numbers6": {"images": 90}})
    ran = repository.repro(*TRAINING)
    assert {name for name in ran if name.startswith(("ingest", "normalize"))} == {
        "ingest@fournierp",
        "normalize@fournierp",
    }
    assert cells(ran, "train") == {"fournierp-dummy-0", "fournierp-second-0", "union-dummy-0"}


def stale(repository: Repository) -> set[str]:
    """The stages with changed dependencies, without cells; those of unions and tiles go by the name of the texts'."""
    changed = json.loads(repository.dvc("status", "--json"))
    return {name.partition("@")[0].removesuffix("-union").removesuffix("-tiles") for name in changed}


READERS = {"carry", "latency", "predict", "probe", "train"}
SCORES = {"calibration", "leaderboard", "probes", "report", "score"}
ALL = {"ambiguity", "audit", "ingest", "normalize", "suspects"} | READERS | SCORES


@pytest.mark.parametrize(
    ("file", "old", "new", "stages"),
    [
        ("networks/decoding.py", "def greedy_decode", "def greedy_decode", READERS),
        ("cells/split.py", "samples.folds == fold", "samples.folds == fold + 1", READERS - {"carry"}),
        ("models/segmentation/ink.py", "import", "import", READERS),
        ("training/optimizer.py", "import", "import", READERS),
        ("alphabet.py", "def fold_case", "def fold_case", ALL),
        ("alphabet.py", "def decode", "def decode", ALL),
        ("config.py", "merged(result[key], value) if both else value", "value", ALL),
        ("scoring/counts.py", "import", "import", SCORES | {"carry"}),
        ("comparison/compare.py", "import", "import", set()),
        ("studies/cost.py", "import", "import", {"probes", "report"}),
        ("errors.py", "def visible", "def visible", set()),
    ],
)
def test_an_edit_reruns_the_stages_that_it_can_change_and_no_others(
    repository: Repository, file: str, old: str, new: str, stages: set[str]
) -> None:
    repository.make_repro()
    path = repository.folder / "captchabench" / file
    kept = path.read_text()
    assert old in kept
    path.write_text(f"{kept.replace(old, new)}\n# edited\n")
    changed = stale(repository)
    path.write_text(kept)
    assert changed == stages


def test_dropped_cells_leave_nothing_stale_here_or_in_a_clone(repository: Repository, tmp_path: Path) -> None:
    repository.make_repro()
    params = yaml.safe_load((repository.folder / "params.yaml").read_text())
    repository.set_params(matrix={**params["matrix"], "models": ["dummy"], "datasets": ["fournierp"]})
    assert (repository.folder / "data/models/numbers6-second-0").is_dir()
    repository.make_repro()
    repository.commit("fewer cells")
    for output in ("models/numbers6-second-0", "predictions/fournierp-second-0.parquet", "shards/numbers6"):
        assert not (repository.folder / "data" / output).exists()
    assert stale(repository) == set()

    clone = Repository.__new__(Repository)
    clone.folder = tmp_path / "clone"
    repository.git("clone", "-q", ".", str(clone.folder))
    (clone.folder / "data/downloads").mkdir(parents=True)
    clone.dvc("cache", "dir", "--local", str(repository.folder / ".dvc/cache"))
    clone.dvc("checkout")
    assert stale(clone) == set()
