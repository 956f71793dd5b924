"""Checks an exported graph before it is passed to ONNX Runtime.

Only what `captchabench export` writes is allowed. So the graph cannot refer to another file, contain a subgraph (`If`,
`Loop`, `Scan`, functions) or use an operator of another domain. Such a graph runs each operator once. The sizes of its
tensors depend only on the sizes of the weights and on the number of images, never on computed values. They are inferred
before the graph is run and limited, which limits memory and time.
"""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from onnx import ModelProto, NodeProto, TensorProto

INPUT, OUTPUT = "pixels", "log_probs"

# The fields that exports of the deep models use, by message type. tests/inference/test_onnx_graph.py compares this list
# with real exports. Any other field is refused: an attribute, for example, may hold no tensor and no graph.
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
# The operators that they use, of ONNX's default domain in this version.
OPSET = 20
OPERATORS = {
    *("Add", "BatchNormalization", "Cast", "Concat", "Conv", "Div", "Expand", "Gather", "Gelu", "Gemm", "Identity"),
    *("LSTM", "LayerNormalization", "Less", "LogSoftmax", "MatMul", "MaxPool", "Mul", "Neg", "Pow", "ReduceMean"),
    *("Relu", "Reshape", "Shape", "Sigmoid", "Slice", "Softmax", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze"),
    "Where",
}
# Operators that compute with sizes. None of them has smaller outputs for more images.
SIZE_OPERATORS = {"Concat", "Mul", "Reshape", "Shape", "Slice"}
# Operators whose axes or indices must be weights, not computed values.
_STATIC_INDICES = {"Gather", "ReduceMean", "Slice", "Squeeze", "Unsqueeze"}
# Operators whose output has as many elements as their first input.
_SAME_SIZE = {"Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}

# The maximum number of images in one run.
_MAX_IMAGES = 64
# The maximum number of intermediate values, per image and per run. The largest model here has 18 million per image.
_MAX_VALUES_PER_IMAGE, _MAX_VALUES_PER_RUN = 1 << 29, 1 << 28
# The maximum number of multiplications per image: about ten seconds.
_MAX_MULTIPLICATIONS = 100_000_000_000
# The maximum length of a list such as the nodes, number of messages in total, and integer in an attribute.
_MAX_LIST, _MAX_MESSAGES, _MAX_INTEGER = 10_000, 100_000, 1 << 31


def check_graph(model: "ModelProto", input_shape: Sequence[int], output_shape: Sequence[int]) -> int:
    """Check that `model` maps pixels [B, *input_shape] uint8 to log_probs [B, *output_shape] float32.

    Returns the largest batch that may be passed to it. Raises ValueError, or an exception of ONNX's shape inference, if
    the graph contains anything that an export does not, or would take too much memory or time.
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
        if node.op_type in _STATIC_INDICES and not weights.issuperset(filter(None, node.input[1:])):
            raise ValueError(f"{node.op_type} depends on computed values")
        if any(abs(number) > _MAX_INTEGER for a in node.attribute for number in (a.i, *a.ints)):
            raise ValueError(f"{node.op_type} has an attribute that is out of range")
    names = [*initializers, INPUT, *(name for node in graph.node for name in node.output if name)]
    if len(set(names)) < len(names):
        raise ValueError("has two tensors with the same name")
    if [value.name for value in (*graph.input, *graph.output)] != [INPUT, OUTPUT]:
        raise ValueError(f"has inputs and outputs other than {INPUT} and {OUTPUT}")
    # Sizes may depend on the number of images, so both the smallest and the largest batch are checked.
    values = max(_check_sizes(model, images, input_shape, output_shape) for images in (2, _MAX_IMAGES))
    return max(1, min(_MAX_IMAGES, _MAX_VALUES_PER_RUN // values))


def _check_fields(model: "ModelProto") -> None:
    """Check that the file has only fields that an export has, and not too many of them."""
    pending: list[Message] = [model]
    messages = 1
    while pending:
        message = pending.pop()
        kind = message.DESCRIPTOR.full_name
        for field, value in message.ListFields():
            if field.name not in FIELDS[kind]:
                raise ValueError(f"has {field.name} in a {kind.removeprefix('onnx.')}")
            if field.is_repeated and len(value) > _MAX_LIST:
                raise ValueError(f"has {len(value):,} of {field.name}")
            if field.message_type is not None:
                pending += value if field.is_repeated else [value]
                messages += len(value) if field.is_repeated else 1
        if messages > _MAX_MESSAGES:
            raise ValueError(f"has more than {_MAX_MESSAGES:,} parts")


def _check_weights(tensor: "TensorProto") -> None:
    """Check that the weights have one of two types and as many bytes as their shape needs."""
    import onnx

    widths = {onnx.TensorProto.FLOAT: 4, onnx.TensorProto.INT64: 8}
    if tensor.data_type not in widths or math.prod(tensor.dims) * widths[tensor.data_type] != len(tensor.raw_data):
        raise ValueError(f"holds incomplete weights {tensor.name!r}")


def _check_sizes(model: "ModelProto", images: int, input_shape: Sequence[int], output_shape: Sequence[int]) -> int:
    """Check types, sizes and multiplications for a batch of `images`. Returns the number of values per image."""
    import onnx

    sized = _skeleton(model)
    (pixels,), (log_probs,) = sized.graph.input, sized.graph.output
    uint8, float32 = onnx.TensorProto.UINT8, onnx.TensorProto.FLOAT
    for value, kind, shape in ((pixels, uint8, input_shape), (log_probs, float32, output_shape)):
        declared = value.type.tensor_type
        if declared.elem_type != kind or [dim.dim_value for dim in declared.shape.dim[1:]] != list(shape):
            raise ValueError(
                f"{value.name} is not of the shape [batch, {', '.join(map(str, shape))}], or of another type"
            )
    pixels.type.tensor_type.shape.dim[0].dim_value = images
    # Cleared, so that it is inferred.
    log_probs.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(sized, check_type=True, strict_mode=True, data_prop=True).graph
    shapes: dict[str, list[int] | None] = {tensor.name: list(tensor.dims) for tensor in inferred.initializer}
    kinds = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        kinds[value.name] = value.type.tensor_type.elem_type
        shapes[value.name] = _known_shape(value.type.tensor_type)
    if shapes[OUTPUT] != [images, *output_shape]:
        raise ValueError(f"gives log_probs of the shape {shapes[OUTPUT]} for {images} images")
    sizes = {name: math.prod(shape) for name, shape in shapes.items() if shape is not None}
    sizes[""] = 0
    allowed = {onnx.TensorProto.FLOAT, onnx.TensorProto.BOOL}
    values = multiplications = 0
    for node in inferred.node:
        for name in filter(None, node.output):
            if name not in sizes and node.op_type in _SAME_SIZE and node.input[0] in sizes:
                sizes[name] = sizes[node.input[0]]
            if name not in sizes or sizes[name] < 0:
                raise ValueError(f"{node.op_type} has an output whose size cannot be inferred")
            if kinds.get(name) not in (
                allowed | {onnx.TensorProto.INT64} if node.op_type in SIZE_OPERATORS else allowed
            ):
                raise ValueError(f"{node.op_type} has an output of a type that is not allowed")
            values += sizes[name]
        if not sizes.keys() >= set(node.input):
            raise ValueError(f"{node.op_type} has an input that nothing computes")
        multiplications += _multiplications(node, shapes, sizes)
    if values > images * _MAX_VALUES_PER_IMAGE or multiplications > images * _MAX_MULTIPLICATIONS:
        raise ValueError(
            f"computes {values // images:,} values per image with {multiplications // images:,} multiplications"
        )
    return max(1, values // images)


def _skeleton(model: "ModelProto") -> "ModelProto":
    """A copy without the values of float weights, which do not affect sizes, and without the file's value_info."""
    import onnx

    skeleton = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    graph = skeleton.graph
    graph.name = model.graph.name
    for part in ("node", "input", "output"):
        getattr(graph, part).extend(getattr(model.graph, part))
    for tensor in model.graph.initializer:
        is_integer = tensor.data_type == onnx.TensorProto.INT64
        without_values = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
        graph.initializer.append(tensor if is_integer else without_values)
    return skeleton


def _known_shape(kind: Any) -> list[int] | None:
    """The shape of a tensor type; None unless every dimension is known."""
    dims = kind.shape.dim
    is_known = kind.HasField("shape") and all(dim.WhichOneof("value") == "dim_value" for dim in dims)
    return [dim.dim_value for dim in dims] if is_known else None


def _multiplications(node: "NodeProto", shapes: dict[str, list[int] | None], sizes: dict[str, int]) -> int:
    """An upper bound on the operator's multiplications: one per input and output value, more for sums of products."""
    out = sum(sizes[name] for name in node.output)
    base = out + sum(sizes[name] for name in node.input)
    first, second = (*(shapes.get(name) for name in node.input), None, None)[:2]
    match node.op_type:
        case "MatMul" | "Gemm" if first or second:
            return base + out * max(first or second or ())
        case "Conv" if second:
            return base + out * math.prod(second[1:])
        case "LSTM" if second:
            return base + sizes[node.input[0]] // max(1, second[-1]) * sum(sizes[name] for name in node.input[1:3])
        case "MaxPool":
            kernel: list[int] = [side for a in node.attribute if a.name == "kernel_shape" for side in a.ints]
            return base + out * math.prod(kernel)
        case "MatMul" | "Gemm" | "Conv" | "LSTM":
            raise ValueError(f"{node.op_type} has an input whose shape cannot be inferred")
    return base
