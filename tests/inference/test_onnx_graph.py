"""Untrusted ONNX graphs: what `captchabench export` does not write is refused before it is run."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from captchabench.alphabet import class_alphabet
from captchabench.errors import InputError
from captchabench.inference.loaded import load_recogniser
from captchabench.inference.onnx_export import export_onnx
from captchabench.inference.onnx_graph import FIELDS, OPERATORS, OPSET, SIZE_OPERATORS
from captchabench.models import RECOGNISERS, build_recogniser
from captchabench.models.neural import CTCRecogniser, NeuralRecogniser
from captchabench.samples.shards import Samples
from tests.inference.onnx_edits import Edit, edited

PARAMETERS: dict[str, dict[str, Any]] = {"effnet_b1": {"weights": None}}
TRAINING = {"training": {"steps": 1, "batch_size": 2}}


def messages(message: Any) -> Iterator[Any]:
    """A protobuf message and, recursively, the messages in it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if field.is_repeated else [value]:
                yield from messages(part)


@pytest.fixture(scope="module")
def exports(make_samples: Callable[..., Samples], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every deep model, exported: trained on lines, and on grids if it can read those."""
    lines = make_samples(4, lengths=(4, 6))
    named = replace(lines.info, task="grid", alphabet="ab", min_length=9, max_length=9, class_names=("bus", "car"))
    tiled = replace(named, height=48, width=48, alphabet=class_alphabet(2).symbols)
    pixels = np.random.default_rng(0).integers(0, 256, (4, 48, 48), np.uint8)
    grids = replace(lines, info=tiled, labels=np.array(["abababab" + s for s in "abab"], object), pixels=pixels)
    paths = {}
    for name in RECOGNISERS.names():
        if not issubclass(RECOGNISERS[name], NeuralRecogniser):
            continue
        for samples in (lines, grids):
            if samples is grids and issubclass(RECOGNISERS[name], CTCRecogniser):
                continue
            model = build_recogniser(name, samples.info.spec, PARAMETERS.get(name, {}) | TRAINING)
            folder = tmp_path_factory.mktemp(name)
            model.fit(samples, samples, seed=0)
            model.save(folder, samples.info, fold=0)
            export_onnx(folder, folder / "out.onnx")
            read = load_recogniser(folder / "out.onnx").recogniser.predict(samples.pixels)
            assert read.texts == model.predict(samples.pixels).texts
            paths[f"{name} {samples.info.task}"] = folder / "out.onnx"
    return paths


def test_what_is_allowed_is_what_exports_have(exports: dict[str, Path]) -> None:
    assert len(exports) > len({key.split()[0] for key in exports}) > 3
    operators = set()
    fields: defaultdict[str, set[str]] = defaultdict(set)
    for path in exports.values():
        model = onnx.load(path)
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
        operators |= {node.op_type for node in model.graph.node}
        for message in messages(model):
            fields[message.DESCRIPTOR.full_name] |= {field.name for field, _ in message.ListFields()}
    assert operators == OPERATORS
    assert fields == FIELDS
    assert SIZE_OPERATORS < OPERATORS


def insert(model: onnx.ModelProto, *nodes: onnx.NodeProto) -> None:
    """Put nodes between the network and its output: the first reads `was`, the last writes `log_probs`."""
    graph = model.graph
    graph.node[-1].output[0] = "was"
    graph.node.extend(nodes)


def weights(model: onnx.ModelProto, **named: Any) -> None:
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in named.items())


def external_tensor(name: str = "w") -> TensorProto:
    """A tensor whose values are in another file."""
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret.bin")
    return tensor


def branch(*nodes: onnx.NodeProto, initializer: tuple[TensorProto, ...] = ()) -> onnx.GraphProto:
    value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    return helper.make_graph(list(nodes), "branch", [], [value], initializer)


def in_a_constant(model: onnx.ModelProto) -> None:
    insert(model, helper.make_node("Constant", [], ["c"], value=external_tensor()), node("Add", "was", "c"))


def in_a_branch(model: onnx.ModelProto) -> None:
    weights(model, always=np.array(True))
    inner = branch(helper.make_node("Identity", ["w"], ["inner"]), initializer=(external_tensor(),))
    choice = helper.make_node("If", ["always"], ["c"], then_branch=inner, else_branch=inner)
    insert(model, choice, node("Add", "was", "c"))


def in_a_sparse_weight(model: onnx.ModelProto) -> None:
    sparse = model.graph.sparse_initializer.add(dims=[1])
    sparse.values.CopyFrom(external_tensor())
    sparse.indices.CopyFrom(external_tensor("indices"))


def a_loop(model: onnx.ModelProto) -> None:
    weights(model, times=np.array(2**62), always=np.array(True))
    info = helper.make_tensor_value_info
    values = [info("i", 7, []), info("on", 9, []), info("x", 1, None)]
    ends = [info("on2", 9, []), info("y", 1, None)]
    body = helper.make_graph(
        [helper.make_node("Identity", ["on"], ["on2"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        values,
        ends,
    )
    insert(model, helper.make_node("Loop", ["times", "always", "was"], ["log_probs"], body=body))


def a_function(model: onnx.ModelProto) -> None:
    opsets = [helper.make_opsetid("", OPSET)]
    inner = [helper.make_node("Identity", ["x"], ["y"])]
    model.functions.append(helper.make_function("own", "Same", ["x"], ["y"], inner, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    insert(model, helper.make_node("Same", ["was"], ["log_probs"], domain="own"))


def training(model: onnx.ModelProto) -> None:
    model.training_info.add().algorithm.CopyFrom(branch(initializer=(external_tensor(),)))


def texts(model: onnx.ModelProto) -> None:
    insert(model, helper.make_node("Cast", ["was"], ["log_probs"], to=TensorProto.STRING))
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING


def texts_on_the_way(model: onnx.ModelProto) -> None:
    cast = helper.make_node("Cast", ["was"], ["c"], to=TensorProto.STRING)
    insert(model, cast, helper.make_node("Cast", ["c"], ["log_probs"], to=TensorProto.FLOAT))


def fewer_classes(model: onnx.ModelProto) -> None:
    weights(model, a=np.array([0]), b=np.array([3]), c=np.array([2]))
    insert(model, node("Slice", "was", "a", "b", "c"))
    model.graph.output[0].type.tensor_type.shape.dim[2].dim_value = 3


def fewer_images(model: onnx.ModelProto) -> None:
    weights(model, a=np.array([0]), b=np.array([1]), c=np.array([0]))
    insert(model, node("Slice", "was", "a", "b", "c"))


def pixels_of_another_type(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def a_second_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info(model.graph.node[0].output[0], 7, [1]))


def a_size_that_follows_pixels(model: onnx.ModelProto) -> None:
    weights(model, axis=np.array([0, 1, 2]), column=np.array([-1]))
    insert(
        model,
        helper.make_node("ReduceMean", ["was", "axis"], ["m"], keepdims=0),
        helper.make_node("Cast", ["m"], ["n"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["n", "column"], ["s"]),
        helper.make_node("Expand", ["was", "s"], ["log_probs"]),
    )


def half_of_memory(model: onnx.ModelProto) -> None:
    weights(model, size=np.array([2**31, 1, 1, 1]), axis=np.array([0]))
    insert(
        model,
        helper.make_node("Expand", ["was", "size"], ["large"]),
        helper.make_node("ReduceMean", ["large", "axis"], ["log_probs"], keepdims=0),
    )


def hours(model: onnx.ModelProto) -> None:
    weights(model, row=np.zeros((1, 1 << 13), np.float32), size=np.array([1 << 13] * 2), axis=np.array([0, 1]))
    chain = [helper.make_node("Expand", ["row", "size"], ["m0"])]
    chain += [helper.make_node("MatMul", [f"m{i}", "m0"], [f"m{i + 1}"]) for i in range(6)]
    average = helper.make_node("ReduceMean", ["m6", "axis"], ["average"], keepdims=0)
    insert(model, *chain, average, node("Add", "was", "average"))


def two_of_one_name(model: onnx.ModelProto) -> None:
    name = model.graph.node[0].output[0]
    insert(model, helper.make_node("Relu", ["was"], [name]), node("Relu", "was"))


def two_weights_of_one_name(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(model.graph.initializer[0])


def weights_cut_off(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]


def an_older_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 11


def node(kind: str, *inputs: str) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, ["log_probs"])


HOSTILE: dict[Edit, str] = {
    in_a_constant: "has t in a AttributeProto|has the operator Constant",
    in_a_branch: "has g in a AttributeProto|has data_location|has external_data",
    in_a_sparse_weight: "has sparse_initializer",
    a_loop: "has g in a AttributeProto",
    a_function: "has functions",
    training: "has training_info",
    texts: "log_probs is not",
    texts_on_the_way: "Cast has an output of a type that is not allowed",
    fewer_classes: "log_probs is not",
    fewer_images: "gives log_probs of the shape",
    pixels_of_another_type: "pixels is not",
    a_second_output: "has inputs and outputs other than",
    a_size_that_follows_pixels: "whose size cannot be inferred|of a type that is not allowed",
    half_of_memory: "values per image",
    hours: "multiplications",
    two_of_one_name: "two tensors with the same name",
    two_weights_of_one_name: "two tensors with the same name",
    weights_cut_off: "holds incomplete weights",
    an_older_opset: "is not of ONNX's opset",
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("edit", HOSTILE, ids=lambda edit: edit.__name__)
def test_a_graph_that_is_no_export_is_refused(
    exports: dict[str, Path], tmp_path: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("secret.bin").write_bytes(np.float32(1).tobytes())
    path = edited(exports["char_cnn text"], tmp_path / "edited.onnx", edit)
    with pytest.raises(InputError, match=HOSTILE[edit]) as caught:
        load_recogniser(path)
    assert str(path) in str(caught.value)


def test_many_images_are_read_in_turns(exports: dict[str, Path], make_samples: Callable[..., Samples]) -> None:
    pixels = make_samples(150, lengths=(4, 6)).pixels
    loaded = load_recogniser(exports["char_cnn text"])
    together = loaded.read(pixels)
    apart = [prediction for part in np.array_split(pixels, 150) for prediction in loaded.read(part)]
    assert [p.text for p in together] == [p.text for p in apart]
