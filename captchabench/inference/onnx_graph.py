"""What an exported graph may be made of, looked at before ONNX Runtime is given it.

Allowed is what `captchabench export` writes, and nothing else: so no part names another file, holds a graph of its own
(`If`, `Loop`, `Scan`, functions) or comes from another domain. What is left runs each operator once, on tensors whose
sizes follow from those of the weights and from the number of images, never from what is in them. Those sizes are
inferred beforehand and limited, and with them memory and time.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from onnx import ModelProto, NodeProto, TensorProto

INPUT, OUTPUT = "pixels", "log_probs"

# All that the exports of the deep models hold, by message; tests/inference/test_onnx_graph.py compares. A graph has no
# others: an attribute, for one, has no tensor and no graph.
FIELDS = {
    "onnx.ModelProto": {"graph", "ir_version", "metadata_props", "opset_import", "producer_name", "producer_version"},
    "onnx.GraphProto": {"initializer", "input", "metadata_props", "name", "node", "output", "value_info"},
    "onnx.NodeProto": {"attribute", "input", "name", "op_type", "output"},
    "onnx.AttributeProto": {"f", "i", "ints", "name", "s", "type"},
    "onnx.TensorProto": {"data_type", "dims", "name", "raw_data"},
    "onnx.ValueInfoProto": {"name", "type"},
    "onnx.TypeProto": {"tensor_type"},
    "onnx.TypeProto.Tensor": {"elem_type", "shape"},
    "onnx.TensorShapeProto": {"dim"},
    "onnx.TensorShapeProto.Dimension": {"dim_param", "dim_value"},
    "onnx.StringStringEntryProto": {"key", "value"},
    "onnx.OperatorSetIdProto": {"domain", "version"},
}
# Likewise, of ONNX's own domain in this version.
OPSET = 20
OPERATORS = {
    *("Add", "BatchNormalization", "Cast", "Concat", "Conv", "Div", "Expand", "Gather", "Gelu", "Gemm", "Identity"),
    *("LSTM", "LayerNormalization", "Less", "LogSoftmax", "MatMul", "MaxPool", "Mul", "Neg", "Pow", "ReduceMean"),
    *("Relu", "Reshape", "Shape", "Sigmoid", "Slice", "Softmax", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze"),
    "Where",
}
# What computes with sizes: none of them gets smaller for more images.
SIZE_OPERATORS = {"Concat", "Mul", "Reshape", "Shape", "Slice"}
# Operators that are told by weights, never by what was computed, which part of a tensor they take.
_TOLD = {"Gather", "ReduceMean", "Slice", "Squeeze", "Unsqueeze"}
# Whose output has as many elements as their first input, whatever its shape.
_SAME_SIZE = {"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}

# Images in one run at most, and numbers that may be computed on the way, an image and a run: those of the largest
# model here are 18 million an image.
_IMAGES = 64
_NUMBERS, _NUMBERS_AT_ONCE = 1 << 29, 1 << 28
# Multiplications an image. Ten seconds or so.
_WORK = 100_000_000_000
# Of a list, such as that of the nodes; parts of all kinds together; whole numbers in attributes.
_LONGEST_LIST, _MOST_PARTS, _LARGEST_ATTRIBUTE = 10_000, 100_000, 1 << 31


def check_graph(model: "ModelProto", takes: Sequence[int], gives: Sequence[int]) -> int:
    """Check that `model` maps pixels [B, *takes] uint8 to log_probs [B, *gives] float32 as an export of ours does.

    Returns how many images may be given it at a time. Raises ValueError, or what ONNX's shape inference raises, where
    it holds anything else or would take too much.
    """
    _check_fields(model)
    if [(opset.domain, opset.version) for opset in model.opset_import] != [("", OPSET)]:
        raise ValueError(f"is not of ONNX's opset {OPSET}")
    graph = model.graph
    initializers = [tensor.name for tensor in graph.initializer]
    weights = set(initializers)
    for tensor in graph.initializer:
        _check_weights(tensor)
    for node in graph.node:
        if node.op_type not in OPERATORS:
            raise ValueError(f"has the operator {node.op_type}")
        if node.op_type in _TOLD and not weights.issuperset(filter(None, node.input[1:])):
            raise ValueError(f"{node.op_type} depends on what was computed")
        if any(abs(number) > _LARGEST_ATTRIBUTE for a in node.attribute for number in (a.i, *a.ints)):
            raise ValueError(f"{node.op_type} has an absurd attribute")
    given = [*initializers, INPUT, *(name for node in graph.node for name in node.output if name)]
    if len(set(given)) < len(given):
        raise ValueError("has two tensors of one name")
    if [value.name for value in (*graph.input, *graph.output)] != [INPUT, OUTPUT]:
        raise ValueError(f"takes and gives other than {INPUT} and {OUTPUT}")
    # More images may make a difference by themselves: of sizes, the least is looked at too.
    numbers = max(_check_sizes(model, images, takes, gives) for images in (2, _IMAGES))
    return max(1, min(_IMAGES, _NUMBERS_AT_ONCE // numbers))


def _check_fields(model: "ModelProto") -> None:
    """Everything in the file is of a kind that an export of ours has, and not too many of it."""
    waiting: list[Message] = [model]
    parts = 1
    while waiting:
        message = waiting.pop()
        kind = message.DESCRIPTOR.full_name
        for field, value in message.ListFields():
            if field.name not in FIELDS[kind]:
                raise ValueError(f"has {field.name} in a {kind.removeprefix('onnx.')}")
            if field.is_repeated and len(value) > _LONGEST_LIST:
                raise ValueError(f"has {len(value):,} of {field.name}")
            if field.message_type is not None:
                waiting += value if field.is_repeated else [value]
                parts += len(value) if field.is_repeated else 1
        if parts > _MOST_PARTS:
            raise ValueError(f"has more than {_MOST_PARTS:,} parts")


def _check_weights(tensor: "TensorProto") -> None:
    """Weights are whole, and of one of two types."""
    import onnx

    widths = {onnx.TensorProto.FLOAT: 4, onnx.TensorProto.INT64: 8}
    if tensor.data_type not in widths or math.prod(tensor.dims) * widths[tensor.data_type] != len(tensor.raw_data):
        raise ValueError(f"holds weights {tensor.name!r} that are not whole")


def _check_sizes(model: "ModelProto", images: int, takes: Sequence[int], gives: Sequence[int]) -> int:
    """Check types, sizes and work for so many images; return how many numbers are computed for one."""
    import onnx

    sized = _skeleton(model)
    (pixels,), (log_probs,) = sized.graph.input, sized.graph.output
    for value, kind, shape in ((pixels, onnx.TensorProto.UINT8, takes), (log_probs, onnx.TensorProto.FLOAT, gives)):
        said = value.type.tensor_type
        if said.elem_type != kind or [dim.dim_value for dim in said.shape.dim[1:]] != list(shape):
            raise ValueError(
                f"{value.name} is not of the shape [batch, {', '.join(map(str, shape))}], or of another type"
            )
    pixels.type.tensor_type.shape.dim[0].dim_value = images
    # To be inferred.
    log_probs.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(sized, check_type=True, strict_mode=True, data_prop=True).graph
    shapes: dict[str, list[int] | None] = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    kinds = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        kinds[value.name] = value.type.tensor_type.elem_type
        shapes[value.name] = _known(value.type.tensor_type)
    if shapes[OUTPUT] != [images, *gives]:
        raise ValueError(f"gives log_probs of the shape {shapes[OUTPUT]} for {images} images")
    sizes = {name: math.prod(shape) for name, shape in shapes.items() if shape is not None}
    sizes[""] = 0
    allowed = {onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL}
    numbers = work = 0
    for node in inferred.node:
        for name in filter(None, node.output):
            if name not in sizes and node.op_type in _SAME_SIZE and node.input[0] in sizes:
                sizes[name] = sizes[node.input[0]]
            if name not in sizes or sizes[name] < 0:
                raise ValueError(f"{node.op_type} gives what has no size that could be known")
            if kinds.get(name) not in (
                allowed | {onnx.TensorProto.INT64} if node.op_type in SIZE_OPERATORS else allowed
            ):
                raise ValueError(f"{node.op_type} gives what are no numbers of a network")
            numbers += sizes[name]
        if not sizes.keys() >= set(node.input):
            raise ValueError(f"{node.op_type} takes what nothing gives")
        work += _multiplications(node, shapes, sizes)
    if numbers > images * _NUMBERS or work > images * _WORK:
        raise ValueError(f"computes {numbers // images:,} numbers an image by {work // images:,} multiplications")
    return max(1, numbers // images)


def _skeleton(model: "ModelProto") -> "ModelProto":
    """A copy without what takes room: numbers that say no size, and what the file itself says of sizes."""
    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = light.graph
    graph.name = model.graph.name
    for part in ("node", "input", "output"):
        getattr(graph, part).extend(getattr(model.graph, part))
    for tensor in model.graph.initializer:
        whole = tensor.data_type == onnx.TensorProto.INT64
        outline = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        graph.initializer.append(tensor if whole else outline)
    return light


def _known(kind: Any) -> list[int] | None:
    """The shape of a tensor's type, if all of it is known."""
    dims = kind.shape.dim
    whole = kind.HasField("shape") and all(dim.WhichOneof("value") == "dim_value" for dim in dims)
    return [dim.dim_value for dim in dims] if whole else None


def _multiplications(node: "NodeProto", shapes: dict[str, list[int] | None], sizes: dict[str, int]) -> int:
    """How many the operator makes at most: one for each number in and out, but for those that sum over products."""
    out = sum(sizes[name] for name in node.output)
    moved = out + sum(sizes[name] for name in node.input)
    first, second = (*(shapes.get(name) for name in node.input), None, None)[:2]
    match node.op_type:
        case "MatMul" | "Gemm" if first or second:
            return moved + out * max(first or second or ())
        case "Conv" if second:
            return moved + out * math.prod(second[1:])
        case "LSTM" if second:
            return moved + sizes[node.input[0]] // max(1, second[-1]) * sum(sizes[name] for name in node.input[1:3])
        case "MaxPool":
            kernel: list[int] = [side for a in node.attribute if a.name == "kernel_shape" for side in a.ints]
            return moved + out * math.prod(kernel)
        case "MatMul" | "Gemm" | "Conv" | "LSTM":
            raise ValueError(f"{node.op_type} takes what has no shape that could be known")
    return moved
