"""What each rule makes of a set of images."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from unicodedata import normalize

from captchabench.errors import InputError, visible
from captchabench.labels.found import Reason, Reject
from captchabench.labels.matching import ImageIndex
from captchabench.labels.opening import Images, Packed
from captchabench.labels.parquet import ParquetImages
from captchabench.labels.rules import RULES
from captchabench.labels.tables import Table, has_image_suffix, read_table

# Names of columns, in lower case and without `_`, `-` and spaces.
_OF_FILES = frozenset(
    {"file", "filename", "filepath", "image", "imagefile", "imageid", "imagename", "imagepath", "img", "imgname"}
    | {"imgpath", "path", "picture"}
)
_OF_IMAGES = _OF_FILES | {"id", "name"}
_OF_LABELS = frozenset(
    {"answer", "captcha", "caption", "category", "class", "classname", "code", "groundtruth", "gt", "label", "labels"}
    | {"solution", "string", "target", "text", "transcription", "truth", "value", "word", "words", "y"}
)
_SAMPLED_ROWS = 200
_TEXT_SUFFIX = re.compile(r"(?:\.gt)?\.txt$", re.IGNORECASE)
_LONGEST_TEXT = 100
# Label files that contradict each other more often than this are alternatives, not parts of one.
_MAX_CONFLICTS = 0.1


@dataclass(frozen=True)
class Reading:
    """The labels that one rule finds. rule: as `--labels` takes it; of: its name in RULES.

    labels: one per image, "" or None for no label. rejects: all but the images without a label.
    """

    rule: str
    of: str
    labels: tuple[str | None, ...]
    rejects: tuple[Reject, ...] = ()


@dataclass(frozen=True)
class LabelFiles:
    """The readings of all label files. problems: why files that look like label files are none.

    unused: the paths of the files that hold no labels.
    """

    readings: tuple[Reading, ...]
    problems: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()


def read_names(paths: Sequence[str], rules: Iterable[str]) -> list[Reading]:
    """The readings by rules on the path of an image."""
    readings = []
    for name in rules:
        of_path = RULES[name].of_path
        assert of_path is not None
        readings.append(Reading(name, name, tuple(map(of_path, paths))))
    return readings


def read_label_files(images: Images, only: str = "", column: str = "") -> LabelFiles:
    """The readings of the label files.

    only: the path of the only file to read. column: the only column of labels. Raises InputError if a label file is
    damaged, or if no name in it is that of an image.
    """
    if isinstance(images, ParquetImages):
        header = tuple(images.columns)
        names = [header[index] for index in _label_columns(header, range(len(header)), column)]
        readings = [Reading(f"file:{name}", "file", tuple(images.columns[name])) for name in names]
        return LabelFiles(tuple(_shortened(readings)))
    index = ImageIndex([member.path for member in images.members])
    columns_of: dict[str, list[_Column]] = {}
    lists: list[Table] = []
    unused: list[str] = []
    of_images, texts = ([], set()) if only else _read_texts(images, index)
    for path, content in images.label_contents():
        if path in texts:
            continue
        if only and path != only:
            unused.append(path)
            continue
        where = f"{images.path}/{path}"
        table = read_table(path, content, where)
        columns = _columns(table, index, where, column) if table else []
        for found in columns:
            columns_of.setdefault(found.key, []).append(found)
        if table and not columns and _is_list(table):
            lists.append(table)
        elif not columns:
            unused.append(path)
    merged = [reading for group in columns_of.values() for reading in _merged(group, index)]
    ordered, problems = _read_lists(lists, index, str(images.path))
    if not ordered:
        unused += [table.path for table in lists]
    return LabelFiles(tuple(_shortened(merged) + of_images + ordered), tuple(problems), tuple(unused))


@dataclass(frozen=True)
class _Column:
    """A column of labels in a label file. key: its name; columns of the same name in several files are merged.

    rows: the name in the row, the images that it means, and the label.
    """

    file: str
    key: str
    rows: tuple[tuple[str, list[int], str], ...]


def _columns(table: Table, index: ImageIndex, where: str, wanted: str) -> list[_Column]:
    """The columns of `table` that can be labels, or the `wanted` one; none if it is no table of images."""
    header, rows = table.header, table.rows
    if not header and any(_folded(cell) in _OF_IMAGES | _OF_LABELS for cell in rows[0]):
        header, rows = rows[0], rows[1:]
    columns = range(len(table.rows[0]))
    header = header or tuple(str(column + 1) for column in columns)
    sample = rows[:: max(1, len(rows) // _SAMPLED_ROWS)]

    def as_names(column: int) -> tuple[int, bool, int, int]:
        cells = [row[column] for row in sample]
        found = sum(map(bool, index.find(cells, table.folder)))
        return found, _folded(header[column]) in _OF_IMAGES, sum(map(has_image_suffix, cells)), -column

    if not rows:
        return []
    names = max(columns, key=as_names)
    found, _, with_suffix, _ = as_names(names)
    if not found:
        folded = set(map(_folded, header))
        if len(columns) > 1 and ((folded & _OF_FILES and folded & _OF_LABELS) or 2 * with_suffix > len(sample)):
            example, image = visible(rows[0][names], 60), visible(index.paths[0], 60)
            raise InputError(
                f"{where}: none of its names is an image here: it has '{example}', the images are like '{image}'; "
                "correct the paths, or take the file out"
            )
        return []
    names_in = [row[names] for row in rows]
    hits = index.find(names_in, table.folder)
    chosen = _label_columns(header, [column for column in columns if column != names], wanted)
    if _is_one_hot(rows, chosen):
        marked = [
            (name, images, header[column])
            for name, images, row in zip(names_in, hits, rows, strict=True)
            for column in chosen
            if row[column] == "1"
        ]
        return [_Column(table.path, "class", tuple(marked))]
    return [
        _Column(table.path, header[column], tuple(zip(names_in, hits, (row[column] for row in rows), strict=True)))
        for column in chosen
    ]


def _is_one_hot(rows: Sequence[Sequence[str]], columns: Sequence[int]) -> bool:
    """Whether `columns` are classes: 1 in the column of an image's class, and 0 in the others."""
    cells = [[row[column] for column in columns] for row in rows]
    marked = sum(row.count("1") == 1 for row in cells)
    return len(columns) > 1 and all({"0", "1"}.issuperset(row) for row in cells) and 2 * marked > len(rows)


def _label_columns(header: Sequence[str], columns: Sequence[int], wanted: str) -> list[int]:
    """Of `columns` the wanted one; else those that have the name of labels, or all if none has."""
    if wanted:
        return [column for column in columns if header[column] == wanted]
    return [column for column in columns if _folded(header[column]) in _OF_LABELS] or list(columns)


def _folded(name: str) -> str:
    return re.sub(r"[ _-]", "", name).lower()


def _merged(group: Sequence[_Column], index: ImageIndex) -> list[Reading]:
    """One reading of the columns of several files, or one of each if they contradict each other."""
    together = _assigned(group, index)
    conflicts = sum(reject.reason is Reason.TWO_LABELS for reject in together.rejects)
    labelled = sum(map(bool, together.labels))
    if len(group) == 1 or conflicts <= _MAX_CONFLICTS * (labelled + conflicts):
        return [together]
    return [_assigned([column], index) for column in group]


def _assigned(group: Sequence[_Column], index: ImageIndex) -> Reading:
    """The labels of the images that the rows name."""
    found: dict[int, dict[str, None]] = {}
    rejects = []
    for column in group:
        for name, hits, label in column.rows:
            if len(hits) == 1:
                found.setdefault(hits[0], {})[label] = None
            else:
                reason = Reason.SEVERAL_IMAGES if hits else Reason.LABEL_WITHOUT_IMAGE
                rejects.append(Reject(visible(name), reason, f"in {column.file}"))
    labels: list[str | None] = [None] * len(index.paths)
    for image, given in found.items():
        if len(given) == 1:
            (labels[image],) = given
        else:
            rejects.append(Reject(index.paths[image], Reason.TWO_LABELS, " and ".join(map(visible, given))))
    file = group[0].file if len(group) == 1 else "file"
    return Reading(f"{file}:{group[0].key}", "file", tuple(labels), tuple(rejects))


def _shortened(readings: list[Reading]) -> list[Reading]:
    """The readings with the name of the column left out where the file has no other."""
    files = [reading.rule.rpartition(":")[0] for reading in readings]
    return [
        replace(reading, rule=file) if files.count(file) == 1 else reading
        for reading, file in zip(readings, files, strict=True)
    ]


def _read_texts(images: Packed, index: ImageIndex) -> tuple[list[Reading], set[str]]:
    """The reading of text files that hold the label of one image each, and their paths; none if most images lack one.

    A text file has the name of its image and is beside it or in another folder.
    """
    files = [member for member in images.label_files if member.path.lower().endswith(".txt")]
    hits = index.find([_TEXT_SUFFIX.sub("", member.path) for member in files], "")
    of_images = [(member, found) for member, found in zip(files, hits, strict=True) if found]
    if 2 * len(of_images) < len(index.paths):
        return [], set()
    rows = []
    for entry, (_, found) in zip(images.read([member for member, _ in of_images]), of_images, strict=True):
        lines = entry.encoded.decode("utf-8-sig", errors="replace").split("\n")
        words = [normalize("NFC", line.strip()) for line in lines if line.strip()]
        if len(words) > 1 or len(words[0] if words else "") > _LONGEST_TEXT:
            # Boxes, or notes.
            return [], set()
        rows.append((entry.path, found, words[0] if words else ""))
    reading = _assigned([_Column("text-files", "", tuple(rows))], index)
    return [replace(reading, rule="text-files", of="text-files")], {member.path for member, _ in of_images}


def _is_list(table: Table) -> bool:
    """Whether a file can have one label per line: most lines are one word."""
    return len(table.rows[0]) == 1 and 2 * sum(" " not in row[0] for row in table.rows) > len(table.rows)


def _natural(path: str) -> tuple[tuple[int, str], ...]:
    """A key that sorts numbers in names by value. Not by `int`, which refuses thousands of digits."""
    parts = re.split(r"([0-9]+)", path)
    numbers = [part.lstrip("0") for part in parts]
    return tuple((len(n), n) if i % 2 else (-1, part) for i, (part, n) in enumerate(zip(parts, numbers, strict=True)))


def _read_lists(tables: Sequence[Table], index: ImageIndex, where: str) -> tuple[list[Reading], list[str]]:
    """The readings of files with one label per line, in both orders of names, and why files do not fit."""
    in_order = {
        "lines": sorted(range(len(index.paths)), key=lambda image: index.paths[image]),
        "lines-natural": sorted(range(len(index.paths)), key=lambda image: _natural(index.paths[image])),
    }
    labels: dict[str, list[str | None]] = {name: [None] * len(index.paths) for name in in_order}
    problems = []
    used = False
    for table in tables:
        below = {i for i, path in enumerate(index.paths) if not table.folder or path.startswith(f"{table.folder}/")}
        lines = [row[0] for row in table.rows]
        if len(lines) == len(below) + 1 and _folded(lines[0]) in _OF_LABELS:
            del lines[0]
        if len(lines) != len(below):
            problems.append(
                f"{where}/{table.path} has {len(lines):,} lines for {len(below):,} images; give one line an image, "
                "in the order of their names, or path<TAB>label"
            )
            continue
        used = True
        for name, order in in_order.items():
            for image, label in zip(filter(below.__contains__, order), lines, strict=True):
                labels[name][image] = label
    return [Reading(name, name, tuple(found)) for name, found in labels.items() if used], problems
