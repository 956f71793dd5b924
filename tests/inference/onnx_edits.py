"""Changes to exported models."""

from collections.abc import Callable
from pathlib import Path

import onnx

from captchabench.inference.onnx_file import CHECKSUM_KEY
from captchabench.storage.checksum import UNSEALED, sealed

Edit = Callable[[onnx.ModelProto], object]


def edited(exported: Path, out: Path, edit: Edit) -> Path:
    """A changed copy, its checksum right: as whoever changes it on purpose would leave it."""
    model = onnx.load(exported)
    said(CHECKSUM_KEY, lambda value: UNSEALED)(model)
    edit(model)
    out.write_bytes(sealed(model.SerializeToString()))
    return out


def said(key: str, change: Callable[[str], str]) -> Edit:
    """An edit of what the file says under `key`."""

    def edit(model: onnx.ModelProto) -> None:
        for entry in model.metadata_props:
            if entry.key == key:
                entry.value = change(entry.value)

    return edit
