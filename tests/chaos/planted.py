"""Searches everything that a program has written for planted secrets, inside compressed files as well."""

import base64
import gzip
import sqlite3
import subprocess
import urllib.parse
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def forms(user: str, secret: str) -> list[bytes]:
    """The forms of `secret` to search for: plain, quoted for a URL, in hexadecimal, and in base64 at any offset.

    HTTP's Basic authorisation is base64 of `user:secret`.
    """
    plain = secret.encode()
    result = {plain, urllib.parse.quote(secret, safe="").encode(), plain.hex().encode()}
    result.add(base64.b64encode(f"{user}:{secret}".encode()).rstrip(b"="))
    for lead in range(3):
        # The digits at both ends depend on the neighbouring bytes.
        result.add(base64.b64encode(b"\0" * lead + plain)[4 if lead else 0 : -4])
    return sorted(result)


def leaks(folders: Iterable[Path], wanted: Sequence[bytes], spared: Sequence[Path] = ()) -> list[str]:
    """The files below `folders` whose bytes, unpacked content or name contain any of `wanted`."""
    result = []
    for path in _files(folders):
        if path in spared:
            continue
        for where, content in _readings(path):
            if any(form in content for form in wanted):
                result.append(f"{path}{where}")
    return result


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _readings(path: Path) -> Iterator[tuple[str, bytes]]:
    content = path.read_bytes()
    yield "", content
    yield " (its name)", str(path).encode()
    if content[:4] == b"PAR1":
        table = pq.read_table(path)
        yield " (metadata)", b"".join(b"%s %s" % pair for pair in (table.schema.metadata or {}).items())
        for name, column in zip(table.column_names, table.columns, strict=True):
            if not pa.types.is_fixed_size_binary(column.type):
                yield f" (column {name})", repr(column.to_pylist()).encode()
    elif content[:2] == b"\x1f\x8b":
        yield " (unpacked)", gzip.decompress(content)
    elif content[:4] == b"PK\x03\x04" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as packed:
            for name in packed.namelist():
                yield f" ({name})", packed.read(name)
    elif content.startswith(b"SQLite format 3"):
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as base:
            yield " (dumped)", "\n".join(base.iterdump()).encode(errors="replace")


def leaks_in_git(root: Path, wanted: Sequence[bytes]) -> list[str]:
    """The same for every object in the Git repository at `root`, reachable or not."""
    command = ["git", "cat-file", "--batch-all-objects", "--batch"]
    objects = subprocess.run(command, cwd=root, capture_output=True, check=True).stdout
    assert objects
    return [f"{root}: an object of Git's" for form in wanted if form in objects]
