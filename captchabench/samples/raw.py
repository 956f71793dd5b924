"""The raw contract: images as found, in one Parquet file a dataset.

Columns `image` (struct of `bytes` and `path`) and `label` (as found: the file's stem, or the folder of a tile). The
`huggingface` schema metadata lets `datasets.load_dataset("parquet", ...)` show the pictures.
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
from captchabench.samples.shards import METADATA_KEY, sealable
from captchabench.storage.checksum import check_sealed, seal
from captchabench.storage.files import replacing_file

# A row group is what one process normalises at a time, and all that is held in memory of a file.
ROWS = 1024
BYTES = 16 << 20


@dataclass(frozen=True)
class Entry:
    """One image as found: its path within the source ("/" between folders) and its bytes."""

    path: str
    encoded: bytes

    @property
    def stem(self) -> str:
        """The file's name without folders and without its last suffix."""
        return stem_of(self.path)


class Source(Protocol):
    """Images to ingest.

    total: how many `entries` gives. available: how many there are, before the cut to a number of images.
    skipped: what was found and is no image by its name, counted by reason.
    """

    total: int
    available: int
    skipped: Mapping[str, int]

    def entries(self) -> Iterator[Entry]:
        """The images, in an order that depends on nothing but the source."""
        ...


@dataclass(frozen=True)
class RawInfo:
    """What a raw file says about itself, in its schema metadata.

    available: images that the source has; the file may hold fewer. skipped: other files found, by reason.
    """

    dataset: str
    source: str
    version: int
    available: int
    skipped: Mapping[str, int]


def schema(info: RawInfo) -> pa.Schema:
    """The Arrow schema of a raw file, `info` in its metadata."""
    features = {"image": {"_type": "Image"}, "label": {"_type": "Value", "dtype": "string"}}
    return pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.string())],
        metadata={
            **sealable(json.dumps(asdict(info), sort_keys=True)),
            b"huggingface": json.dumps({"info": {"features": features}}).encode(),
        },
    )


def write_raw(path: Path, info: RawInfo, entries: Iterable[Entry], label_of: Callable[[str], str] = stem_of) -> int:
    """Write `entries` row group by row group, whole or not at all; return the number of rows.

    label_of: the label that an image's path gives, as found.
    """
    total = 0
    pending: list[Entry] = []
    size = 0
    with replacing_file(path) as temporary:
        with pq.ParquetWriter(
            temporary,
            schema(info),
            # The images are compressed already; searching them for a dictionary or an order is wasted too.
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
    """What a raw file says about itself, once its checksum was found right.

    Raises InputError where it is missing, damaged or not ours.
    """
    mend = f"run `dvc repro --force {stage_name('ingest', path.stem)}`"
    try:
        check_sealed(path, mend)
        metadata = pq.read_schema(path).metadata or {}
        return RawInfo(**json.loads(metadata[METADATA_KEY]))
    except FileNotFoundError:
        raise InputError(f"{path}: is missing; run `dvc repro {stage_name('ingest', path.stem)}`") from None
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: is damaged ({error}); {mend}") from None
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{path}: is not one of our raw files; {mend}") from None


def _batch(info: RawInfo, entries: list[Entry], label_of: Callable[[str], str]) -> pa.RecordBatch:
    encoded = pa.array([entry.encoded for entry in entries], pa.binary())
    paths = pa.array([entry.path for entry in entries], pa.string())
    image = pa.StructArray.from_arrays([encoded, paths], ["bytes", "path"])
    labels = pa.array([label_of(entry.path) for entry in entries], pa.string())
    return pa.record_batch([image, labels], schema=schema(info))
