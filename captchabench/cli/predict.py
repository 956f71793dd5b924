"""The commands that use trained models: `captchabench predict` and `captchabench export`.

Their dependencies are imported inside them: a model may need torch, which takes seconds to import.
"""

import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePath
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from captchabench.datasets import DATASETS, UNION
from captchabench.datasets.declared import own_datasets
from captchabench.errors import InputError
from captchabench.inference.files import STANDARD_INPUT, ImageFile, ImageFiles
from captchabench.registry import did_you_mean
from captchabench.report.readings import Columns, Format, Row, Writer, shown, writer
from captchabench.storage.files import replacing_file

if TYPE_CHECKING:
    from captchabench.inference.loaded import LoadedRecogniser
    from captchabench.inference.reading import FileReading
    from captchabench.scoring.counts import Counts

# Exit codes: 1 is a user's mistake, 2 a wrong command line. With 3 all other files were read. With 4 all files were
# read, but some names have no label to score by.
UNREADABLE = 3
UNLABELLED = 4
_LISTED = 100
_SUFFIXES = {".csv": Format.CSV, ".json": Format.JSON, ".parquet": Format.PARQUET}


def predict(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Images, folders of any depth, or - for one image on standard input."),
    ],
    model: Annotated[
        Path, typer.Option(help="The folder of a trained model, such as data/models/vtu-char_cnn-0, or an .onnx file.")
    ],
    format: Annotated[
        Format | None, typer.Option(help="Output format; by default that of --output, else table.", show_default=False)
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Write to this file, whole or not at all.")] = None,
    top_k: Annotated[int, typer.Option(min=1, max=100, help="Also write the k most likely texts of each image.")] = 1,
    labels_from_name: Annotated[
        bool, typer.Option("--labels-from-name", help="Score the predictions against labels from the file names.")
    ] = False,
    dataset: Annotated[
        str | None, typer.Option(help="The dataset whose rule maps file names to labels; by default the model's.")
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            "--labels", metavar="RULE", help="Where names hold labels, such as stem or before-first-underscore."
        ),
    ] = None,
    show_steps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Save pictures that show how each image was read to this folder.")
    ] = None,
) -> None:
    """Read images with a trained model: text and confidence of each file.

    Files that cannot be read are listed at the end, and the exit code is then 3. With --labels-from-name, names without
    a label that the model could read are listed and not scored. The exit code is then 4.
    """
    from captchabench.inference.loaded import load_recogniser
    from captchabench.inference.reading import read_files
    from captchabench.progress import tracked

    # Pillow warns about images that are then rejected; the reason is listed.
    warnings.filterwarnings("ignore", category=UserWarning, module="PIL")
    if format is None:
        format = _SUFFIXES.get(output.suffix.lower(), Format.TABLE) if output else Format.TABLE
    if format is Format.PARQUET and output is None:
        raise InputError("parquet cannot be written to the terminal; give --output FILE")
    if (dataset or rule) and not labels_from_name:
        raise InputError(f"{'--dataset' if dataset else '--labels'} needs --labels-from-name; give both")
    if dataset and rule:
        raise InputError("--dataset and --labels both say where names hold labels; give one of them")
    files, named = _inputs(paths)
    if show_steps and len({path.absolute().name for path in paths}) < len(paths):
        raise InputError("--show-steps names its folders after the paths; give paths that end in different names")
    recogniser = load_recogniser(model)
    labels = _Labels(recogniser, dataset, rule, named) if labels_from_name else None
    columns = Columns(labels_from_name, top_k if top_k > 1 else 0, recogniser.about.max_length)

    unreadable = _Unreadable()
    counts: Counts | None = None
    bar = sys.stderr.isatty() and (output is not None or not sys.stdout.isatty())
    total = sum(1 for _ in files) if bar else 0
    with ExitStack() as stack:
        target = _open(stack, output, format, columns)
        images = tracked(files, total, "read") if bar else files
        for batch in read_files(recogniser, images, top_k):
            rows = [_row(reading, labels) for reading in batch]
            target.write(rows)
            unreadable.add(rows)
            if labels:
                counts = _count(rows, counts)
            if show_steps:
                _write_steps(show_steps, recogniser, batch)
        if isinstance(files, ImageFiles):
            unreadable.add(Row(path, None, f"folder not opened: {reason}", None) for path, reason in files.unread)
        unreadable.require_any()
    if isinstance(files, ImageFiles) and files.skipped:
        _say(f"skipped: {files.skipped:,} files in the folders are hidden or have no suffix of an image")
    if labels:
        _say(_score(counts))
        labels.list_refused()
    unreadable.end()
    if labels and labels.refused:
        raise typer.Exit(UNLABELLED)


def export(
    out: Annotated[Path, typer.Argument(metavar="OUT.onnx", help="The file to write.")],
    onnx: Annotated[Path, typer.Option(metavar="MODEL", help="The folder of a trained deep model.")],
    check: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="Images to compare on; by default the model's held-out images."),
    ] = None,
) -> None:
    """Export a deep model to ONNX, and check that ONNX Runtime reads the same texts with it.

    `captchabench predict --model OUT.onnx` loads it. The file's metadata holds the preprocessing and the decoding.
    """
    from captchabench.inference.loaded import load_recogniser
    from captchabench.inference.onnx_check import compare_exported, held_out_pixels
    from captchabench.inference.onnx_export import export_onnx
    from captchabench.inference.onnx_file import SUFFIX
    from captchabench.models import read_saved

    if out.suffix != SUFFIX:
        raise InputError(f"{out}: must end in {SUFFIX}, by which exports are recognised")
    about = read_saved(onnx).about
    if check is None:
        pixels = held_out_pixels(_shards_beside(onnx), about)
    else:
        original = load_recogniser(onnx)
        pixels = original.stack([original.decode(file.path) for file in ImageFiles([check])])
    with replacing_file(out) as temporary:
        export_onnx(onnx, temporary)
        agreement = compare_exported(onnx, temporary, pixels) if len(pixels) else None
        if agreement and agreement.differing:
            raise InputError(
                f"{out}: not written; ONNX Runtime read {agreement.differing:,} of {agreement.images:,} images "
                f"differently from torch"
            )
    typer.echo(f"{out}: {about.model} trained on {about.dataset}, {out.stat().st_size:,} bytes")
    if agreement is None:
        _say(f"not compared with torch: {_shards_beside(onnx)} holds no images of {about.dataset}; give --check PATH")
        return
    typer.echo(f"{agreement.images:,} images read: the same texts by torch and by ONNX Runtime")
    typer.echo(
        f"one image by itself, on the CPU: torch {1000 * agreement.torch_seconds:.2f} ms, "
        f"ONNX Runtime {1000 * agreement.onnx_seconds:.2f} ms"
    )


def _shards_beside(model: Path) -> Path:
    """The shards of the run that trained `model`, data/models/M: data/shards."""
    return model.parent.parent / "shards"


def _inputs(paths: Sequence[Path]) -> tuple[Sequence[ImageFile] | ImageFiles, bool]:
    """The images to read, and whether they have file names."""
    if not any(str(path) == STANDARD_INPUT for path in paths):
        return ImageFiles(paths), True
    if len(paths) > 1:
        raise InputError("- reads one image from standard input; give it alone")
    from captchabench.inference.images import DEFAULT_LIMITS

    # One byte more than the limit, so that a larger image is refused.
    content = sys.stdin.buffer.read(DEFAULT_LIMITS.size + 1)
    return [ImageFile(Path(STANDARD_INPUT), PurePath("stdin"), content)], False


class _Labels:
    """Finds labels in file names. refused: the number of names without one that fits; the first hundred are listed."""

    def __init__(self, recogniser: "LoadedRecogniser", dataset: str | None, rule: str | None, named: bool) -> None:
        from captchabench.labels.fitting import NameLabels

        about = recogniser.about
        declaring = dataset or about.dataset
        if not named:
            raise InputError("--labels-from-name: an image on standard input has no name")
        if about.task == "grid":
            raise InputError("--labels-from-name: the file name of a grid does not give the classes of its nine tiles")
        if declaring == UNION and not rule:
            raise InputError("--labels-from-name: the model is for several datasets; give --dataset with one of them")
        declared = None
        if not rule and declaring in DATASETS.names():
            declared = DATASETS[declaring].label_of
        elif not rule:
            rule = _own_rule(declaring, required=dataset is not None)
        lengths = about.min_length, about.max_length
        self._labels = NameLabels(about.spec.alphabet, *lengths, rule or "", declared)
        self.refused = 0
        self._files = 0
        self._first: list[str] = []

    def of(self, reading: "FileReading") -> str | None:
        """The label of a file, or None. Files that cannot be read are not refused: they have a reason already."""
        from captchabench.labels.fitting import Unfit

        path = reading.file.path
        self._files += 1
        try:
            return self._labels.of(path.absolute().as_posix())
        except Unfit as why:
            if reading.error is None:
                self.refused += 1
                if len(self._first) < _LISTED:
                    self._first.append(f"{shown(path)}: no label: {why}")
            return None

    def list_refused(self) -> None:
        """List the names without a label, if there are any."""
        for line in self._first:
            _say(line)
        if self.refused > len(self._first):
            _say(f"... and {self.refused - len(self._first):,} more")
        if self.refused:
            _say(
                f"error: {self.refused:,} of {self._files:,} names have no label that the model could read, and are "
                "not scored; rename them, or give --labels RULE"
            )


def _own_rule(dataset: str, required: bool) -> str:
    """The rule on names that params.yaml declares for images of the user's own; empty if there is none.

    Raises InputError if the dataset is `required` and not declared. If it is not required, the model may have been
    trained elsewhere, and params.yaml may be another project's.
    """
    from captchabench.labels.rules import OF_NAME

    try:
        own = {declared.key: declared.rule for declared in own_datasets()}
    except InputError:
        if required:
            raise
        return ""
    if required and dataset not in own:
        raise InputError(f"no dataset called '{dataset}'; {did_you_mean(dataset, [*DATASETS.names(), *own])}")
    rule = own.get(dataset, "")
    return rule if rule in (*OF_NAME, "folder") else ""


class _Unreadable:
    """Files that could not be read: all are counted, the first hundred are listed."""

    def __init__(self) -> None:
        self._files = 0
        self._first: list[Row] = []
        self._reasons: Counter[str] = Counter()

    def add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self._files += 1
            if row.error is not None:
                self._reasons[row.error.split(":")[0]] += 1
                if len(self._first) < _LISTED:
                    self._first.append(row)

    def require_any(self) -> None:
        """Raise InputError if there was no file at all."""
        if not self._files:
            raise InputError("the folders hold no images; give others, or name files")

    def end(self) -> None:
        """If there are any, list them and exit with UNREADABLE."""
        if not self._reasons:
            return
        for row in self._first:
            _say(f"{shown(row.file)}: {row.error}")
        unread = self._reasons.total()
        if unread > len(self._first):
            _say(f"... and {unread - len(self._first):,} more")
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in self._reasons.most_common())
        _say(f"error: {unread:,} of {self._files:,} files could not be read ({reasons})")
        raise typer.Exit(UNREADABLE)


def _open(stack: ExitStack, output: Path | None, format: Format, columns: Columns) -> Writer:
    """The writer to the terminal or to a temporary file, which replaces `output` if `stack` closes without an error."""
    if output is None:
        # Taken now, before the progress bar replaces sys.stdout.
        return stack.enter_context(writer(format, sys.stdout, columns))
    temporary = stack.enter_context(replacing_file(output))
    stream: IO[Any]
    if format is Format.PARQUET:
        stream = stack.enter_context(temporary.open("wb"))
    else:
        stream = stack.enter_context(temporary.open("w", encoding="utf-8", newline=""))
    return stack.enter_context(writer(format, stream, columns))


def _row(reading: "FileReading", labels: _Labels | None) -> Row:
    path = reading.file.path
    return Row(
        file=path,
        prediction=reading.prediction,
        error=reading.error.why if reading.error else None,
        label=labels.of(reading) if labels else None,
    )


def _count(rows: Sequence[Row], counts: "Counts | None") -> "Counts | None":
    """`counts` with the rows that were read added to them."""
    import numpy as np

    from captchabench.scoring.counts import Counts

    read = [(row.label, row.prediction) for row in rows if row.prediction is not None and row.label is not None]
    if not read:
        return counts
    new = Counts.of(
        [label for label, _ in read],
        [prediction.text for _, prediction in read],
        np.array([prediction.confidence for _, prediction in read]),
        None,
    )
    return new if counts is None else counts + new


def _score(counts: "Counts | None") -> str:
    if counts is None:
        return "exact: no file with a label was read"
    from captchabench.scoring.intervals import wilson
    from captchabench.scoring.metrics import cer, exact

    low, high = wilson(counts.exact, counts.n)
    interval = f"95 % interval {100 * low:.1f}–{100 * high:.1f}"
    return f"exact {exact(counts):.1%} ({counts.exact:,} of {counts.n:,}, {interval}), CER {cer(counts):.2%}"


def _write_steps(folder: Path, recogniser: "LoadedRecogniser", batch: Sequence["FileReading"]) -> None:
    from captchabench.report.steps import write_steps

    for reading in batch:
        if reading.prediction is not None:
            file = reading.file
            (explanation,) = recogniser.explain([file.path if file.content is None else file.content])
            write_steps(folder / file.relative_path, explanation)


def _say(line: str) -> None:
    typer.echo(line, err=True)
