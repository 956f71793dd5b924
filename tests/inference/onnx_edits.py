"""Edits of exported models."""

from collections.abc import Callable
from pathlib import Path

import onnx

from captchabench.inference.onnx_file import CHECKSUM_KEY
from captchabench.storage.checksum import UNSEALED, sealed

Edit = Callable[[onnx.ModelProto], object]


def edited(exported: Path, out: Path, edit: Edit) -> Path:
    """An edited copy with a valid checksum, as after a deliberate change."""
    model = onnx.load(exported)
    editing_metadata(CHECKSUM_KEY, lambda value: UNSEALED)(model)
    edit(model)
    out.write_bytes(sealed(model.SerializeToString()))
    return out


def editing_metadata(key: str, change: Callable[[str], str]) -> Edit:
    """An edit that changes the metadata value of `key`."""

    def edit(model: onnx.ModelProto) -> None:
        for entry in model.metadata_props:
            if entry.key == key:
                entry.value = change(entry.value)

    return edit
