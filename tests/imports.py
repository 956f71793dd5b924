"""The imports between the project's files, from their syntax trees."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


@cache
def imports_of(path: Path) -> frozenset[Path]:
    """The project's files that the file at `path` imports, and their packages. Type-checking imports do not count."""
    reached: set[Path] = set()
    for name in _imported(ast.parse(path.read_text(encoding="utf-8"))):
        parts = name.split(".")
        if parts[0] not in ("captchabench", "stages"):
            continue
        for length in range(1, len(parts) + 1):
            module = ROOT.joinpath(*parts[:length])
            reached |= {file for file in (module / "__init__.py", module.with_suffix(".py")) if file.is_file()}
    return frozenset(reached)


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from _imported(node)


def closure(start: set[Path], apart: set[str]) -> set[str]:
    """All files that those in `start` import, directly or indirectly, including `start`.

    apart: files and folders that are neither followed nor returned.
    """
    reached, pending = set[Path](), list(start)
    while pending:
        path = pending.pop()
        if path not in reached and not is_within(path.relative_to(ROOT).as_posix(), apart):
            reached.add(path)
            pending += imports_of(path)
    return {path.relative_to(ROOT).as_posix() for path in reached}


def is_within(file: str, paths: set[str]) -> bool:
    """Whether a file is one of `paths`, or in a folder that is."""
    return any(file == path or file.startswith(f"{path}/") for path in paths)
