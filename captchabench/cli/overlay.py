"""Changes params.yaml by a second file of the same structure."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from captchabench.config import read_yaml
from captchabench.errors import InputError, visible
from captchabench.registry import did_you_mean
from captchabench.storage.files import write_text


def apply_overlay(overlay: Path, params: Path) -> list[tuple[str, Any, Any]]:
    """Set every parameter of `overlay` in `params`, keeping comments and order; return (key, old, new) of each change.

    A mapping is merged, anything else replaced. Raises InputError for a section that `params` does not have.
    """
    changes = read_yaml(overlay)
    read_yaml(params)
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    try:
        document = yaml.load(params.read_text(encoding="utf-8"))
    # This YAML parser may reject what the other accepts.
    except Exception as error:
        raise InputError(f"{params}: not valid YAML ({visible(str(error), 200)})") from None
    for section in changes:
        if section not in document:
            shown = visible(section, 60)
            raise InputError(f"{overlay}: {shown}: no such section in {params}; {did_you_mean(shown, document)}")
    changed = list(merge(document, changes))
    text = StringIO()
    yaml.dump(document, text)
    write_text(params, text.getvalue())
    return changed


def merge(into: Any, changes: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Set every value of `changes` in `into`, as `apply_overlay` does; yield (key, old, new) of each that differs."""
    for key, new in changes.items():
        old = into.get(key)
        name = f"{prefix}{key}"
        if isinstance(new, dict) and isinstance(old, dict):
            yield from merge(old, new, f"{name}.")
        elif old != new:
            into[key] = new
            yield name, old, new
