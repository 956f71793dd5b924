"""The image files as they were found, joined with the sample_ids of later files."""

from collections.abc import Container
from pathlib import Path

import pyarrow.parquet as pq

from captchabench.normalize.images import decode_grey
from captchabench.normalize.normalizer import sample_id
from captchabench.normalize.rejects import Rejected
from captchabench.samples.raw import read_info


def original_images(raw: Path, wanted: Container[str]) -> dict[str, bytes]:
    """The encoded images of a raw file by sample_id, as far as they are in `wanted`.

    Raises InputError if the file is missing or damaged.
    """
    read_info(raw)
    encoded: dict[str, bytes] = {}
    with pq.ParquetFile(raw) as file:
        for batch in file.iter_batches(columns=["image"]):
            for image in batch["image"].field("bytes").to_pylist():
                try:
                    key = sample_id(decode_grey(image))
                except Rejected:
                    continue
                if key in wanted:
                    encoded.setdefault(key, image)
    return encoded
