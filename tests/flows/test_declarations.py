"""dvc.yaml, prefect.yaml and the Makefile agree with the flow."""

import inspect
import socket
from importlib import import_module
from typing import Any

import pytest

from captchabench.config import read_yaml
from captchabench.errors import InputError
from flows import ROOT, serve
from flows.benchmark import benchmark
from flows.resources import Need

STAGES: dict[str, Any] = read_yaml(ROOT / "dvc.yaml")["stages"]
DEPLOYMENTS: list[dict[str, Any]] = read_yaml(ROOT / "prefect.yaml")["deployments"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_says_what_it_needs_in_words_that_are_known(stage: str) -> None:
    Need.of(stage, STAGES[stage].get("meta"))


def test_stages_that_train_or_read_with_a_network_use_a_gpu_where_there_is_one() -> None:
    for stage in ("train", "train-union", "predict", "predict-union", "probe", "latency"):
        assert Need.of(stage, STAGES[stage].get("meta")).gpus == 1


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda entry: entry["name"])
def test_deployments_give_the_flow_parameters_that_it_has(deployment: dict[str, Any]) -> None:
    path, name = deployment["entrypoint"].split(":")
    assert getattr(import_module(path.removesuffix(".py").replace("/", ".")), name) is benchmark
    assert set(deployment["parameters"]) <= set(inspect.signature(benchmark.fn).parameters)
    benchmark.validate_parameters(deployment["parameters"])
    assert deployment["concurrency_limit"] == 1


def test_one_deployment_is_on_a_schedule() -> None:
    assert [entry["name"] for entry in DEPLOYMENTS if entry.get("schedules")] == ["nightly"]


def test_a_port_that_is_taken_is_an_error_that_says_what_to_do() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(InputError, match=f"make schedule PORT={port + 2}"):
            serve.main(["--port", str(port)])
