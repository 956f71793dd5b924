"""A small pipeline that uses the benchmark's writers, for short versions of the long chaos scripts."""

from pathlib import Path

import pytest

from tests.chaos.repository import Repository

STAGE = '''
"""small: what it reads -> a file that Git keeps, and a folder that DVC keeps."""
import sys, time
from pathlib import Path
from captchabench.storage.files import replacing_folder, write_text
from stages import run

def main(name, *needed):
    text = "".join(Path(f"metrics/{one}.txt").read_text() for one in needed) + name
    write_text(Path(f"metrics/{name}.txt"), text)
    time.sleep(0.05)
    with replacing_folder(Path(f"data/models/{name}")) as folder:
        (folder / "weights").write_text(text * 1000)

if __name__ == "__main__":
    run(main)
'''

PIPELINE = """
stages:
  train:
    matrix: {cell: [a, b]}
    cmd: python -m stages.small ${item.cell}
    outs: ["data/models/${item.cell}", {"metrics/${item.cell}.txt": {cache: false}}]
  table:
    cmd: python -m stages.small table a b
    deps: [metrics/a.txt, metrics/b.txt]
    outs: [data/models/table, metrics/table.txt: {cache: false}]
"""


@pytest.fixture
def small(tmp_path: Path) -> Repository:
    """A pipeline of train@a, train@b and table that has not run yet."""
    files = {"stages/small.py": STAGE, "dvc.yaml": PIPELINE}
    return Repository.make(tmp_path / "template", files=files)
