"""`compare` and `history` in real Git and DVC repositories, small enough to be made in a test."""

import json
import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from dvc.repo import Repo  # type: ignore[import-untyped]
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from captchabench.cli.app import app
from captchabench.comparison.compare import compare
from captchabench.comparison.revisions import WORKSPACE, resolve, side
from captchabench.comparison.rows import Comparison, Row
from captchabench.errors import InputError
from captchabench.networks.readings import Reading
from captchabench.predictions.held_out import PredictionInfo, write_predictions
from captchabench.samples.shards import Samples, ShardInfo
from captchabench.scoring.cells import ScoredCell, score_predictions, write_cell
from captchabench.storage.files import write_json
from captchabench.studies.noise import noise_table, parameters_digest

pytestmark = pytest.mark.usefixtures("spared_garbage")

DATASETS = ["numbers6", "vtu"]
IMAGES = 400
RUN = CliRunner(env={"NO_COLOR": "1", "TERM": "dumb"})
DVC_YAML = """
stages:
  normalize:
    matrix:
      dataset: ${matrix.datasets}
    cmd: echo ${item.dataset}
    params: [normalize]
    outs: ["data/rejects/${item.dataset}.csv"]
  predict:
    matrix:
      dataset: ${matrix.datasets}
      model: ${matrix.models}
      fold: ${matrix.folds}
    cmd: echo ${item.dataset} ${item.model} ${item.fold}
    outs: ["data/predictions/${item.dataset}-${item.model}-${item.fold}.parquet"]
metrics: [metrics/summary.json]
plots:
  - metrics/leaderboard.csv: {template: simple, x: exact, y: model}
"""


class Benchmark:
    """A repository with the files that the benchmark has after a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def git(self, *words: str) -> str:
        who = {f"GIT_{role}_{what}": "a@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        return subprocess.run(
            ["git", *words], cwd=self.folder, env={**os.environ, **who}, capture_output=True, text=True, check=True
        ).stdout

    def results(
        self,
        models: Mapping[str, float],
        *,
        seed: int,
        normalize: Mapping[str, Any] | None = None,
        images: int = IMAGES,
        folds: Sequence[int] = (0,),
    ) -> None:
        """Write the files of a run in which each model reads its share of images right. seed: of the errors."""
        shutil.rmtree(self.folder / "metrics", ignore_errors=True)
        shutil.rmtree(self.folder / "data/predictions", ignore_errors=True)
        grid = {"datasets": DATASETS, "models": list(models), "union": [], "folds": list(folds)}
        params = {"matrix": grid, "normalize": {"height": 32, "width": 100, "max_rejected": 0.02, **(normalize or {})}}
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))
        rng = np.random.default_rng(seed)
        cells = []
        for dataset in DATASETS:
            (self.folder / "data/rejects").mkdir(parents=True, exist_ok=True)
            (self.folder / f"data/rejects/{dataset}.csv").write_text(dataset)
            for model, share in models.items():
                for fold in folds:
                    cells.append(score_predictions(self._predictions(dataset, model, fold, rng.random(images) < share)))
        for cell in cells:
            write_cell(self.folder / f"metrics/cells/{cell.dataset}-{cell.model}-{cell.fold}.json", cell)
        self._tables(cells)

    def _tables(self, cells: Sequence[ScoredCell]) -> None:
        """Write leaderboard.csv and summary.json with the columns that are read."""
        board = []
        nested: defaultdict[str, dict[str, dict[str, float]]] = defaultdict(dict)
        for dataset, model in sorted({(cell.dataset, cell.model) for cell in cells}):
            folds = [c.parts[dataset].counts for c in cells if (c.dataset, c.model) == (dataset, model)]
            n, characters = sum(f.n for f in folds), sum(f.characters for f in folds)
            values = {"n": n, "exact": sum(f.exact for f in folds) / n, "cer": sum(f.edits for f in folds) / characters}
            nested[model][dataset] = {name: round(value, 6) for name, value in values.items()}
            board.append({"dataset": dataset, "source": "standin", "version": 1, "model": model, **values})
        pl.DataFrame(board).with_columns(pl.col("exact", "cer").round(6)).write_csv(
            self.folder / "metrics/leaderboard.csv"
        )
        write_json(self.folder / "metrics/summary.json", nested)

    def _predictions(self, dataset: str, model: str, fold: int, right: NDArray[np.bool_]) -> Path:
        n = len(right)
        labels = [f"{i:06d}" for i in range(n)]
        texts = [label if r else f"{label[:5]}x" for label, r in zip(labels, right, strict=True)]
        info = ShardInfo(dataset, "standin", 1, 2, 2, "0123456789x", 6, 6)
        samples = Samples(
            info,
            np.array([f"{fold}{i:08x}" for i in range(n)], object),
            np.array(labels, object),
            np.full(n, fold, np.int8),
            np.full(n, dataset, object),
            np.zeros((n, 2, 2), np.uint8),
        )
        path = self.folder / f"data/predictions/{dataset}-{model}-{fold}.parquet"
        described = PredictionInfo(dataset, "standin", 1, model, fold, info.alphabet, 1234)
        write_predictions(path, described, samples, Reading(texts, np.full(n, 0.9, np.float32)), None)
        return path

    def commit(self, message: str) -> None:
        """Commit the files to Git and the predictions to DVC."""
        with chdir(self.folder), Repo() as repo:
            repo.commit(force=True)
        self.git("add", "-A")
        self.git("commit", "-qm", message)


BASE = {"crnn": 0.8, "hog_svc": 0.6}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Benchmark:
    """Branches: main; seed, with another seed; better, with a better crnn; grid, with other models; wide, with
    other normalisation."""
    folder = tmp_path_factory.mktemp("compared")
    benchmark = Benchmark(folder)
    benchmark.git("init", "-qb", "main")
    Repo.init(str(folder)).close()
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / ".gitignore").write_text("/data/\n")
    benchmark.results(BASE, seed=0)
    benchmark.commit("first run")
    for branch, models, more in (
        ("seed", BASE, {}),
        ("better", {**BASE, "crnn": 0.99}, {}),
        ("grid", {"crnn": 0.8, "char_cnn": 0.5}, {}),
        ("wide", BASE, {"normalize": {"width": 120}}),
        ("images", BASE, {"images": IMAGES - 10}),
    ):
        benchmark.git("checkout", "-q", "-b", branch, "main")
        benchmark.results(models, seed=1, **more)
        benchmark.commit(f"results of {branch}")
    benchmark.git("checkout", "-q", "main")
    with chdir(folder), Repo() as repo:
        repo.checkout(force=True)
    return benchmark


@pytest.fixture
def own(made: Benchmark, tmp_path: Path) -> Benchmark:
    """A copy to change."""
    shutil.copytree(made.folder, tmp_path / "own", symlinks=True)
    return Benchmark(tmp_path / "own")


def compared(benchmark: Benchmark, old: str, new: str = WORKSPACE) -> Comparison:
    return compare(side(old, benchmark.folder), side(new, benchmark.folder))


def of(result: Comparison, dataset: str, model: str) -> Row:
    return next(row for row in result.rows if (row.dataset, row.model) == (dataset, model))


def test_two_branches_that_differ(made: Benchmark) -> None:
    result = compared(made, "main", "better")
    for dataset in DATASETS:
        assert of(result, dataset, "crnn").verdict == "better"
        assert of(result, dataset, "hog_svc").verdict == "no significant change"
    row = of(result, "numbers6", "crnn")
    assert row.test == "paired"
    assert row.old is not None
    assert row.new is not None
    assert row.gained is not None
    assert row.lost is not None
    assert len(row.gained) - len(row.lost) == row.new.exact - row.old.exact
    backwards = compared(made, "better", "main")
    assert of(backwards, "numbers6", "crnn").verdict == "worse"


def test_two_branches_that_differ_by_their_seed(made: Benchmark) -> None:
    result = compared(made, "main", "seed")
    assert {row.verdict for row in result.rows} == {"no significant change"}
    # Yet something changed: the errors are on other images.
    assert all(len(row.gained or ()) > 25 and len(row.lost or ()) > 25 for row in result.rows)


def test_the_numbers_are_those_of_dvc(made: Benchmark) -> None:
    def dvc(*words: str) -> Any:
        command = [sys.executable, "-m", "dvc", *words, "main", "better"]
        return json.loads(subprocess.run(command, cwd=made.folder, capture_output=True, text=True, check=True).stdout)

    metrics = dvc("metrics", "diff", "--all", "--json")["metrics/summary.json"]
    plotted = dvc("plots", "diff", "--show-vega", "--targets", "metrics/leaderboard.csv", "--")["data"]["values"]
    points = {(point["rev"], point["dataset"], point["model"]): point for point in plotted}
    rows = compared(made, "main", "better").as_json()["rows"]
    assert len(rows) == 4
    assert len(points) == 8
    for row in rows:
        key = row["dataset"], row["model"]
        for metric in ("exact", "cer", "n"):
            values = metrics[f"{row['model']}.{row['dataset']}.{metric}"]
            assert (row["old"][metric], row["new"][metric]) == (values["old"], values["new"])
            assert float(points["main", *key][metric]) == row["old"][metric]
            assert float(points["better", *key][metric]) == row["new"][metric]
        change = metrics[f"{row['model']}.{row['dataset']}.exact"]["diff"]
        assert row["exact"]["difference"] == pytest.approx(change, abs=2e-6)


def test_new_and_gone_models(made: Benchmark) -> None:
    result = compared(made, "main", "grid")
    assert of(result, "vtu", "char_cnn").verdict == "new"
    assert of(result, "vtu", "hog_svc").verdict == "gone"
    assert of(result, "vtu", "crnn").test == "paired"


def test_other_normalisation_and_other_images_are_not_comparable(made: Benchmark) -> None:
    wide = compared(made, "main", "wide")
    assert {(row.verdict, row.reason) for row in wide.rows} == {
        ("not comparable", "normalisation differs (width 100, 120)")
    }
    fewer = of(compared(made, "main", "images"), "numbers6", "crnn")
    assert fewer.verdict == "not comparable"
    assert fewer.reason == f"held-out images differ ({IMAGES - 10} in common, of {IMAGES} and {IMAGES - 10})"


def test_a_limit_on_rejects_does_not_change_the_normalisation(own: Benchmark) -> None:
    own.results(BASE, seed=0, normalize={"max_rejected": 0.5})
    own.commit("another limit")
    assert {row.test for row in compared(own, "HEAD~1", "HEAD").rows} == {"paired"}


def test_normalisation_is_what_was_run_not_what_params_will_run(own: Benchmark) -> None:
    params = own.folder / "params.yaml"
    params.write_text(params.read_text().replace("width: 100", "width: 120"))
    assert {row.test for row in compared(own, "main").rows} == {"paired"}


def test_predictions_missing_from_the_cache(own: Benchmark) -> None:
    shutil.rmtree(own.folder / ".dvc/cache")
    result = compared(own, "better")
    row = of(result, "numbers6", "crnn")
    assert row.test == "unpaired"
    assert row.reason.startswith("unpaired test: the predictions of better are not in the cache, and DVC has no remote")
    assert "`dvc remote add --default NAME URL`" in row.reason
    assert row.verdict == "worse"
    assert row.gained is None


def test_predictions_come_from_a_remote(own: Benchmark, tmp_path: Path) -> None:
    with chdir(own.folder), Repo() as repo, repo.config.edit("local") as config:
        config["remote"] = {"store": {"url": str(tmp_path / "store")}}
        config["core"] = {"remote": "store"}
    with chdir(own.folder), Repo() as repo:
        repo.push(all_branches=True)
    shutil.rmtree(own.folder / ".dvc/cache")
    assert {row.test for row in compared(own, "better", "seed").rows} == {"paired"}


def set_remote(benchmark: Benchmark, level: str, url: Path) -> None:
    with chdir(benchmark.folder), Repo() as repo, repo.config.edit(level) as config:
        config["remote"] = {"store": {"url": str(url)}}
        config["core"] = {"remote": "store"}


def test_older_commits_see_a_remote_that_was_configured_later(own: Benchmark, tmp_path: Path) -> None:
    (own.folder / ".dvc/cache").rename(tmp_path / "store")
    # Not in the user's own settings, but in a commit on top of the compared ones.
    set_remote(own, "repo", tmp_path / "store")
    own.git("commit", "-qam", "a remote")
    assert {row.test for row in compared(own, "better", "seed").rows} == {"paired"}


def test_a_remote_that_moved_or_is_no_longer_configured(own: Benchmark, tmp_path: Path) -> None:
    set_remote(own, "repo", tmp_path / "store")
    own.git("commit", "-qam", "a remote")
    (own.folder / ".dvc/cache").rename(tmp_path / "store")
    set_remote(own, "repo", tmp_path / "empty")
    assert {row.test for row in compared(own, "HEAD").rows} == {"paired"}
    (tmp_path / "store").rename(tmp_path / "moved")
    row = of(compared(own, "HEAD"), "vtu", "crnn")
    assert "not found in the remote 'store'; if it can be reached, run `dvc push` where they were made" in row.reason
    set_remote(own, "repo", tmp_path / "moved")
    assert {row.test for row in compared(own, "HEAD").rows} == {"paired"}


def test_a_benchmark_in_a_subfolder_of_a_repository(
    made: Benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    top, inside = Benchmark(tmp_path / "mono"), Benchmark(tmp_path / "mono/tools/the benchmark")
    shutil.copytree(made.folder, inside.folder, ignore=shutil.ignore_patterns(".git"))
    top.git("init", "-qb", "main")
    inside.commit("first")
    (top.folder / "metrics").mkdir()
    (top.folder / "metrics/leaderboard.csv").write_text("of another project")
    top.git("add", "-A")
    top.git("commit", "-qm", "not of the benchmark")
    inside.results({**BASE, "crnn": 0.99}, seed=1)
    inside.commit("second")
    monkeypatch.chdir(inside.folder)
    found = compare(side("HEAD~1"), side("HEAD"))
    assert {row.test for row in found.rows} == {"paired"}
    assert of(found, "vtu", "crnn").verdict == "better"
    shutil.rmtree(inside.folder / "data/predictions")
    row = of(compare(side("HEAD~1"), side(WORKSPACE)), "vtu", "crnn")
    assert "of workspace are not on disk" in row.reason
    values = json.loads(RUN.invoke(app, ["history", "--format", "json"]).output)
    assert list(dict.fromkeys(row["subject"] for row in values)) == ["first", "second"]


def test_the_workspace_is_read_from_disk(own: Benchmark) -> None:
    own.results({**BASE, "crnn": 0.99}, seed=2)
    result = compared(own, "HEAD")
    assert of(result, "vtu", "crnn").verdict == "better"
    assert result.new_commit is None
    (own.folder / "data/predictions/vtu-crnn-0.parquet").unlink()
    row = of(compared(own, "HEAD"), "vtu", "crnn")
    assert row.reason == "unpaired test: the predictions of workspace are not on disk; run `dvc pull` or `dvc repro`"


def test_metrics_of_one_run_are_not_joined_with_predictions_of_another(own: Benchmark) -> None:
    kept = own.folder / "metrics"
    shutil.copytree(kept, own.folder / "kept")
    own.results({**BASE, "crnn": 0.99}, seed=2)
    shutil.rmtree(kept)
    (own.folder / "kept").rename(kept)
    row = of(compared(own, "HEAD"), "vtu", "crnn")
    assert row.reason == "unpaired test: the predictions of workspace are not those of its metrics"
    assert row.verdict == "no significant change"


def test_folds_are_pooled_and_other_folds_are_named(own: Benchmark) -> None:
    own.results(BASE, seed=3, folds=(0, 1))
    own.commit("two folds")
    again = of(compared(own, "HEAD", WORKSPACE), "vtu", "crnn")
    assert again.test == "paired"
    assert again.old is not None
    assert again.old.n == 2 * IMAGES
    assert of(compared(own, "main~1", "main"), "vtu", "crnn").reason == "held-out images differ (folds 0; 0, 1)"
    # A fold that is no longer in the matrix leaves its old cell behind.
    params = own.folder / "params.yaml"
    params.write_text(params.read_text().replace("  - 1\n", ""))
    fewer = of(compared(own, "main~1"), "vtu", "crnn")
    assert fewer.new is not None
    assert (fewer.new.n, fewer.test) == (IMAGES, "paired")


def test_errors_are_one_line_that_says_what_to_do(own: Benchmark, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no commit, branch or tag called 'mian'; did you mean 'main'"):
        side("mian", own.folder)
    with pytest.raises(InputError, match="no commit, branch or tag called '--all'"):
        side("--all", own.folder)
    (tmp_path / "bare").mkdir()
    with pytest.raises(InputError, match="is not in a Git repository; run in a clone"):
        side("HEAD", tmp_path / "bare")
    Benchmark(tmp_path / "bare").git("init", "-q")
    with pytest.raises(InputError, match="has no commit yet"):
        side("HEAD", tmp_path / "bare")
    with pytest.raises(InputError, match=r"workspace: has no params.yaml"):
        side(WORKSPACE, tmp_path / "bare")
    shutil.rmtree(own.folder / "metrics")
    with pytest.raises(InputError, match="workspace: has no scored cells in metrics/cells; run `dvc repro`"):
        side(WORKSPACE, own.folder)
    own.git("add", "-A")
    own.git("commit", "-qm", "no metrics")
    with pytest.raises(InputError, match=r"HEAD: has no scored cells .* `captchabench history` lists"):
        side("HEAD", own.folder)


def test_without_dvc_the_test_is_unpaired(own: Benchmark) -> None:
    shutil.rmtree(own.folder / ".dvc")
    assert {row.test for row in compared(own, "better").rows} == {"unpaired"}


@pytest.fixture
def run(made: Benchmark, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(made.folder)
    return lambda *words: RUN.invoke(app, list(words))


def test_the_command_prints_one_row_per_dataset_and_model(run: Callable[..., Result]) -> None:
    done = run("compare", "main", "better")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith("better (")
    shown = [line.split() for line in lines if line.startswith(("   crnn", "   hog_svc"))]
    assert [words[0] for words in shown] == ["crnn", "hog_svc"] * 2
    assert shown[0][-3:] == ["better", "(provisional)", "[1]"]
    assert "2 better (provisional), 2 no significant change (provisional)" in lines
    assert "newly" not in done.output


def test_the_three_formats_have_the_same_content(run: Callable[..., Result]) -> None:
    values = json.loads(run("compare", "main", "better", "--format", "json").output)
    row = next(r for r in values["rows"] if (r["dataset"], r["model"]) == ("vtu", "crnn"))
    place = Path("reports/change.html")
    assert "page: reports/change.html" in run("compare", "main", "better", "--page", str(place)).output
    assert place.read_text().startswith("<!doctype html>")
    text = run("compare", "main", "better", "--format", "markdown", "--flips").output
    line = next(line for line in text[text.index("## vtu") :].splitlines() if line.startswith("| crnn"))
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[1:3] == [f"{row['old']['exact']:.1%}", f"{row['new']['exact']:.1%}"]
    assert cells[3].startswith(f"+{100 * row['exact']['difference']:.1f} (+")
    assert cells[7] == f"{len(row['gained'])}/{len(row['lost'])}"
    assert cells[-1] == f"**{row['words']} [1]**" == "**better (provisional) [1]**"
    assert f"vtu, crnn: {len(row['gained'])} newly right" in text
    flip = row["lost"][0]
    for printed in (text, run("compare", "main", "better", "--flips").output):
        assert f"  {flip['sample_id']}  {flip['label']}: {flip['old']} -> {flip['new']}" in printed.splitlines()


def test_models_of_one_commit(run: Callable[..., Result]) -> None:
    done = run("compare", "better", "--models", "hog_svc", "crnn", "--format", "json")
    assert done.exit_code == 0, done.output
    values = json.loads(done.output)
    assert (values["old"]["name"], values["new"]["name"]) == ("hog_svc", "crnn")
    assert [(r["dataset"], r["model"], r["verdict"]) for r in values["rows"]] == [
        ("numbers6", "crnn", "better"),
        ("vtu", "crnn", "better"),
    ]
    assert "crnn against hog_svc" in run("compare", "--models", "hog_svc", "crnn").output


def test_a_regression_has_its_own_exit_code(run: Callable[..., Result]) -> None:
    done = run("compare", "better", "main", "--fail-on-regression")
    assert done.exit_code == 3
    assert "regressions: crnn on numbers6, crnn on vtu; rows without a test: 0 of 4" in done.stderr
    assert run("compare", "main", "seed", "--fail-on-regression").exit_code == 0
    assert run("compare", "better", "main", "--fail-on-regression", "--margin", "40").exit_code == 0


def test_what_was_not_judged_has_an_exit_code_of_its_own(run: Callable[..., Result]) -> None:
    done = run("compare", "main", "grid", "--fail-on-regression")
    assert done.exit_code == 4
    assert "not judged: hog_svc on vtu: gone" in done.stderr
    assert "Not judged: hog_svc on vtu: gone." in done.stdout
    # A regression among the others counts for more.
    assert run("compare", "better", "grid", "--fail-on-regression").exit_code == 3


def test_the_power_of_a_comparison(run: Callable[..., Result]) -> None:
    done = run("compare", "main", "seed", "--power", "5")
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("  vtu, crnn:")]
    assert f"with {IMAGES:,} images, 1 training of each side" in line
    assert "needs" in line
    # JSON stays JSON.
    assert json.loads(run("compare", "main", "seed", "--power", "5", "--format", "json").stdout)["rows"]


def test_results_that_are_older_than_the_parameters_are_not_judged(
    own: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own.folder)
    params = own.folder / "params.yaml"
    params.write_text(params.read_text().replace("height: 32", "height: 48"))
    done = RUN.invoke(app, ["compare", "main", "--fail-on-regression"])
    assert done.exit_code == 4
    assert "the results of workspace are older than params.yaml: normalize" in done.stderr


def test_measured_noise_and_arithmetic_are_read_from_each_commit(own: Benchmark) -> None:
    raw = yaml.safe_load((own.folder / "params.yaml").read_text())
    row = {"dataset": "vtu", "model": "crnn", "parameters": parameters_digest(raw, "vtu", "crnn"), "trainings": 5}
    scores = {"n": IMAGES, "exact": 0.8, "exact_sd": 0.02, "exact_sd_images": 0.018}
    other = {"cer": 0.03, "cer_sd": 0.004, "cer_sd_images": 0.003}
    noise_table([row | scores | other]).write_csv(own.folder / "metrics/noise.csv")
    header = "dataset,model,fold,precision,device,threads,processor,instructions,libraries"
    table = own.folder / "metrics/arithmetic.csv"
    table.write_text(f'{header}\nvtu,crnn,0,float32,cpu,1,,avx2 avx512_bf16,"numpy 2.3, torch 2.10"\n')
    own.commit("measured")
    table.write_text(table.read_text().replace("avx2 avx512_bf16", "avx2").replace("2.10", "2.11"))
    row_of = of(compared(own, "HEAD"), "vtu", "crnn")
    assert row_of.basis == "study"
    assert row_of.arithmetic == "instructions avx512_bf16 -> no others; libraries torch 2.10 -> torch 2.11"
    assert of(compared(own, "HEAD"), "numbers6", "crnn").basis == "assumed"
    # With other parameters, the noise is measured again.
    params = own.folder / "params.yaml"
    params.write_text(params.read_text().replace("max_rejected: 0.02", "max_rejected: 0.5"))
    assert side(WORKSPACE, own.folder).results["vtu", "crnn"].noise
    params.write_text(params.read_text().replace("height: 32", "height: 48"))
    assert not side(WORKSPACE, own.folder).results["vtu", "crnn"].noise


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give one or two commits"),
        (("main", "better", "seed"), "give one or two commits"),
        (("main", "better", "--models", "crnn", "hog_svc"), "--models compares within one commit"),
        (("main", "--margin", "2"), "--margin needs --fail-on-regression"),
        (("nowhere",), "no commit, branch or tag called 'nowhere'"),
    ],
)
def test_wrong_arguments_are_one_line(run: Callable[..., Result], words: Sequence[str], message: str) -> None:
    done = run("compare", *words)
    assert done.exit_code == 1
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_history_over_commits_and_workspace(own: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    own.results({**BASE, "crnn": 0.99}, seed=4)
    own.commit("a better crnn")
    (own.folder / "README.md").write_text("no metrics in this commit")
    own.git("add", "-A")
    own.git("commit", "-qm", "words")
    own.results({**BASE, "crnn": 0.5}, seed=5)
    monkeypatch.chdir(own.folder)
    summaries = [json.loads(own.git("show", f"{rev}:metrics/summary.json")) for rev in ("HEAD~2", "HEAD~1")]
    summaries.append(json.loads((own.folder / "metrics/summary.json").read_text()))

    values = json.loads(RUN.invoke(app, ["history", "--format", "json"]).output)
    assert list(dict.fromkeys(row["subject"] for row in values)) == ["first run", "a better crnn", "files on disk"]
    hashes = [resolve("HEAD~2"), resolve("HEAD~1"), WORKSPACE]
    for commit, numbers in zip(hashes, summaries, strict=True):
        rows = {(r["model"], r["dataset"], r["metric"]): r["value"] for r in values if r["commit"] == commit}
        for model, of_model in numbers.items():
            for dataset, metrics in of_model.items():
                for metric, value in metrics.items():
                    assert rows[model, dataset, metric] == value

    table = RUN.invoke(app, ["history"]).output
    line = next(line for line in table.splitlines() if line.split()[:2] == ["numbers6", "crnn"])
    assert line.split()[2:] == [f"{numbers['crnn']['numbers6']['exact']:.2%}" for numbers in summaries]
    newest = RUN.invoke(app, ["history", "--last", "1", "--metric", "n", "--format", "markdown"]).output
    assert "| numbers6 | crnn | 400 |" in newest.splitlines()

    done = RUN.invoke(app, ["history", "--plot", "reports/history.html"])
    assert done.exit_code == 0, done.output
    page = (own.folder / "reports/history.html").read_text()
    assert "a better crnn" in page
    assert "https://cdn" not in page
    # Pages are kept: what they say is true after the metrics were committed, too.
    assert "workspace: read from the files on disk when this page was written." in page
    change = own.folder / "reports/change.html"
    assert RUN.invoke(app, ["compare", "HEAD", "--page", str(change)]).exit_code == 0
    assert "workspace: read from the files on disk when this page was written." in change.read_text()
    own.commit("the crnn of the workspace")
    assert not [text for text in (page, change.read_text()) if "not committed" in text]
    assert RUN.invoke(app, ["history", "--plot", "reports/history.html"]).exit_code == 0
    assert RUN.invoke(app, ["compare", "HEAD~1", "HEAD", "--page", str(change)]).exit_code == 0
    for path in (change, own.folder / "reports/history.html"):
        assert "files on disk" not in path.read_text()

    wrong = RUN.invoke(app, ["history", "--metric", "exakt"])
    assert wrong.exit_code == 1
    assert "did you mean 'exact'" in wrong.stderr


def test_history_without_commits_that_have_metrics(
    tmp_path: Path, own: Benchmark, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "is not in a Git repository" in RUN.invoke(app, ["history"]).stderr
    monkeypatch.chdir(own.folder / "data")
    assert "no commit has a metrics/leaderboard.csv" in RUN.invoke(app, ["history"]).stderr


def test_comparing_never_imports_torch_and_the_other_commands_import_no_dvc() -> None:
    code = (
        "import sys\n"
        "from captchabench import cli\n"
        "assert not {'dvc', 'statsmodels', 'altair'} & sys.modules.keys()\n"
        "import captchabench.comparison.revisions, captchabench.comparison.compare, captchabench.report.comparison\n"
        "import captchabench.comparison.history, captchabench.report.history\n"
        "assert not {'torch', 'timm', 'sklearn', 'cv2'} & sys.modules.keys(), sys.modules.keys()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_packages_with_other_versions_are_named(own: Benchmark) -> None:
    lock = own.folder / "requirements.lock"
    lock.write_text("numpy==2.3.4 \\\n    --hash=sha256:00\ntorch==2.10.0\nruff==0.9\n")
    own.git("add", "-A")
    own.git("commit", "-qm", "versions")
    lock.write_text("numpy==2.3.4 \\\n    --hash=sha256:00\ntorch==2.11.0 ; sys_platform == 'linux'\n")
    with chdir(own.folder):
        text = RUN.invoke(app, ["compare", "HEAD"]).stdout
        result = json.loads(RUN.invoke(app, ["compare", "HEAD", "--format", "json"]).stdout)
        before = RUN.invoke(app, ["compare", "HEAD~1", "HEAD"]).stdout
    assert "requirements.lock differs: ruff 0.9 -> absent, torch 2.10.0 -> 2.11.0." in " ".join(text.split())
    assert result["packages"] == {
        "ruff": {"old": "0.9", "new": None},
        "torch": {"old": "2.10.0", "new": "2.11.0"},
    }
    # A commit without a lock file is no difference.
    assert "requirements.lock" not in before
