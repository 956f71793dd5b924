"""The order of stages, without Prefect or processes: which run together, and which a failure stops."""

import threading
import time
from collections.abc import Callable

import pytest

from captchabench.errors import InputError
from flows.dispatch import Outcome, dispatch
from flows.graph import Graph, Stage
from flows.resources import Need, Pool, Share, available_devices


def stage(name: str, *upstream: str, cpus: int = 1, gpus: int = 0, soon: bool = False) -> Stage:
    return Stage(name, upstream, Need(cpus=cpus, gpus=gpus, soon=soon))


class Recorder:
    """Runs each stage in a thread for a moment, and records when it began and its resources."""

    def __init__(self, failing: str = "") -> None:
        self.begun: list[str] = []
        self.shares: dict[str, Share] = {}
        self.most = 0
        self._failing = failing
        self._live: list[Share] = []
        self._lock = threading.Lock()

    def start(self, stage: Stage, share: Share, end: Callable[[Callable[[], Outcome]], None]) -> None:
        with self._lock:
            self.begun.append(stage.name)
            self.shares[stage.name] = share
            self._live.append(share)
            self.most = max(self.most, len(self._live))
            cores = [core for one in self._live for core in one.cores]
            devices = [device for one in self._live for device in one.devices]
            assert len(cores) == len(set(cores))
            assert len(devices) == len(set(devices))
        threading.Thread(target=self._run, args=(stage, share, end)).start()

    def _run(self, stage: Stage, share: Share, end: Callable[[Callable[[], Outcome]], None]) -> None:
        time.sleep(0.02)
        with self._lock:
            self._live.remove(share)
        failure = "broken" if stage.name == self._failing else ""
        end(lambda: Outcome(made=not failure, failure=failure))


GRID = [stage(f"make-{i}") for i in range(6)] + [stage(f"read-{i}", f"make-{i}") for i in range(6)]


def test_no_two_share_a_core_and_all_cores_are_used() -> None:
    recorder = Recorder()
    outcomes = dispatch(GRID, Pool((0, 1, 2, 3), ()), {}, recorder.start)
    assert all(outcome.made for outcome in outcomes.values())
    assert len(outcomes) == len(recorder.begun) == 12
    assert recorder.most == 4
    for i in range(6):
        assert recorder.begun.index(f"make-{i}") < recorder.begun.index(f"read-{i}")


def test_one_stage_per_device() -> None:
    recorder = Recorder()
    due = [stage(f"train-{i}", gpus=1) for i in range(5)] + [stage("score")]
    dispatch(due, Pool(tuple(range(8)), ("0", "3")), {}, recorder.start)
    assert recorder.most == 3
    assert {recorder.shares[f"train-{i}"].devices for i in range(5)} == {("0",), ("3",)}
    assert recorder.shares["score"].environment()["CUDA_VISIBLE_DEVICES"] == ""


def test_a_stage_gets_at_most_what_the_machine_has() -> None:
    recorder = Recorder()
    dispatch([stage("wide", cpus=16, gpus=2)], Pool((4, 5), ("0",)), {}, recorder.start)
    assert recorder.shares["wide"] == Share((4, 5), ("0",))
    assert recorder.shares["wide"].environment()["OMP_NUM_THREADS"] == "2"


def test_the_longest_path_to_the_end_starts_first() -> None:
    recorder = Recorder()
    due = [stage("a"), stage("b"), stage("c"), stage("after-b", "b")]
    dispatch(due, Pool((0,), ()), {"a": 2.0, "b": 1.0, "c": 3.0, "after-b": 5.0}, recorder.start)
    assert recorder.begun == ["b", "after-b", "c", "a"]


def test_stages_that_a_person_waits_for_start_first() -> None:
    recorder = Recorder()
    due = [stage("a"), stage("b"), stage("c"), stage("read-a", "a", soon=True)]
    dispatch(due, Pool((0,), ()), {"a": 3.0, "b": 2.0, "c": 9.0, "read-a": 0.1}, recorder.start)
    assert recorder.begun == ["c", "a", "read-a", "b"]


def test_a_failure_stops_what_depends_on_it_and_nothing_else() -> None:
    recorder = Recorder("make-2")
    due = [*GRID, stage("table", "read-2", "read-3"), stage("page", "table")]
    outcomes = dispatch(due, Pool((0, 1), ()), {}, recorder.start)
    assert {name for name, outcome in outcomes.items() if outcome.blocked} == {"read-2", "table", "page"}
    assert outcomes["make-2"] == Outcome(failure="broken")
    assert sum(outcome.made for outcome in outcomes.values()) == 10


def test_stages_after_a_changed_one_are_due() -> None:
    graph = Graph((*GRID, stage("table", *(f"read-{i}" for i in range(6)))), frozenset({"make-3"}))
    assert [one.name for one in graph.due()] == ["make-3", "read-3", "table"]


def test_words_select_cells_and_their_upstream_stages() -> None:
    stages = (
        stage("data@a"),
        stage("train@a-crnn-0", "data@a"),
        stage("train@a-crnn-1", "data@a"),
        stage("train@a-svc-0", "data@a"),
        stage("table", "train@a-crnn-0", "train@a-crnn-1", "train@a-svc-0"),
    )
    graph = Graph(stages, frozenset({"train@a-svc-0", "data@a"}))
    chosen = graph.only(["crnn", "1"])
    assert [one.name for one in chosen.stages] == ["data@a", "train@a-crnn-1"]
    assert chosen.changed == {"data@a"}
    with pytest.raises(InputError, match="crnn"):
        graph.only(["crn"])
    with pytest.raises(InputError, match="no stage has them all"):
        graph.only(["svc", "1"])


@pytest.mark.parametrize(
    ("meta", "message"),
    [({"gpu": 1}, "gpus"), ({"cpus": 0}, "at least 1"), ({"time_limit": "long"}, "a number"), ([1], "a mapping")],
)
def test_a_bad_need_is_named(meta: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        Need.of("train@a", meta)
    assert "dvc.yaml: train@a: meta" in str(raised.value)


def test_devices_are_those_that_cuda_may_use() -> None:
    assert available_devices({"CUDA_VISIBLE_DEVICES": "2, 5"}) == ("2", "5")
    assert available_devices({"CUDA_VISIBLE_DEVICES": ""}) == ()
