"""The raw format: images as published, in one Parquet file per dataset.

The columns are `image` (struct of `bytes` and `path`) and `label` (unchecked: the file's stem, the folder of a tile, or
what the rule of the user's own images finds). The `huggingface` schema metadata lets
`datasets.load_dataset("parquet", ...)` decode the images.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from captchabench.datasets import stage_name
from captchabench.datasets.base import stem_of
from captchabench.errors import InputError
from captchabench.samples.shards import METADATA_KEY, unsealed_metadata
from captchabench.storage.checksum import check_sealed, seal
from captchabench.storage.files import replacing_file

# The largest row group. A process normalises one row group at a time, so these bound its memory.
ROWS = 1024
BYTES = 16 << 20


@dataclass(frozen=True)
class Entry:
    """One image as published: its path within the source ("/" between folders) and its bytes.

    label: the unchecked label, if it has been found; otherwise it is in the path.
    """

    path: str
    encoded: bytes
    label: str | None = None

    @property
    def stem(self) -> str:
        """The file's name without folders and without its last suffix."""
        return stem_of(self.path)


class Source(Protocol):
    """Images to ingest.

    total: the number of `entries`. available: the number of images before the limit on their number.
    skipped: the number of files whose names are not those of images, by reason.
    """

    total: int
    available: int
    skipped: Mapping[str, int]

    def entries(self) -> Iterator[Entry]:
        """The images, in an order that depends only on the source."""
        ...


@dataclass(frozen=True)
class RawReject:
    """An image without a usable label, which is not in the raw file, or a row of a label file without an image.

    reason: a code of `normalize.rejects.Reason`.
    """

    path: str
    reason: str
    detail: str


@dataclass(frozen=True)
class RawInfo:
    """The description of a raw file, stored in its schema metadata.

    available: the number of images in the source; the file may contain fewer. skipped: the number of other files, by
    reason. rule, rejects: of images of the user's own, where labels were found, and what has none.
    """

    dataset: str
    source: str
    version: int
    available: int
    skipped: Mapping[str, int]
    rule: str = ""
    rejects: tuple[RawReject, ...] = ()


def schema(info: RawInfo) -> pa.Schema:
    """The Arrow schema of a raw file, with `info` in its metadata."""
    features = {"image": {"_type": "Image"}, "label": {"_type": "Value", "dtype": "string"}}
    return pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.string())],
        metadata={
            **unsealed_metadata(json.dumps(asdict(info), sort_keys=True)),
            b"huggingface": json.dumps({"info": {"features": features}}).encode(),
        },
    )


def write_raw(path: Path, info: RawInfo, entries: Iterable[Entry], label_of: Callable[[str], str] = stem_of) -> int:
    """Write `entries` row group by row group, completely or not at all; return the number of rows.

    label_of: maps an image's path to its unchecked label, for entries without one.
    """
    total = 0
    pending: list[Entry] = []
    size = 0
    with replacing_file(path) as temporary:
        with pq.ParquetWriter(
            temporary,
            schema(info),
            # The images are compressed already, and a dictionary or statistics of them would be useless.
            compression={"image.bytes": "NONE", "image.path": "ZSTD", "label": "ZSTD"},
            use_dictionary=False,
            write_statistics=["label"],
        ) as writer:
            for entry in entries:
                pending.append(entry)
                size += len(entry.encoded)
                if len(pending) == ROWS or size >= BYTES:
                    writer.write_batch(_batch(info, pending, label_of))
                    total += len(pending)
                    pending, size = [], 0
            if pending:
                writer.write_batch(_batch(info, pending, label_of))
            total += len(pending)
        seal(temporary)
    return total


def read_info(path: Path) -> RawInfo:
    """Check the checksum of a raw file and read its description.

    Raises InputError if the file is missing, damaged, or not a raw file of this program.
    """
    fix = f"run `dvc repro --force {stage_name('ingest', path.stem)}`"
    try:
        check_sealed(path, fix)
        metadata = pq.read_schema(path).metadata or {}
        values = json.loads(metadata[METADATA_KEY])
        return RawInfo(**values | {"rejects": tuple(RawReject(**reject) for reject in values["rejects"])})
    except FileNotFoundError:
        raise InputError(f"{path}: is missing; run `dvc repro {stage_name('ingest', path.stem)}`") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: is damaged ({error}); {fix}") from None
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: is not one of our raw files; {fix}") from None


def _batch(info: RawInfo, entries: list[Entry], label_of: Callable[[str], str]) -> pa.RecordBatch:
    encoded = pa.array([entry.encoded for entry in entries], pa.binary())
    paths = pa.array([entry.path for entry in entries], pa.string())
    image = pa.StructArray.from_arrays([encoded, paths], ["bytes", "path"])
    found = (label_of(entry.path) if entry.label is None else entry.label for entry in entries)
    labels = pa.array(list(found), pa.string())
    return pa.record_batch([image, labels], schema=schema(info))
