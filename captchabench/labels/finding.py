"""The choice of a rule."""

from collections.abc import Sequence
from pathlib import Path

from captchabench.errors import InputError, visible
from captchabench.labels.evidence import Evidence, are_expressions, task_of, weigh
from captchabench.labels.found import Labelled, LabelledImages, Reason, Reject
from captchabench.labels.opening import Images, open_images
from captchabench.labels.parquet import ParquetImages
from captchabench.labels.readings import LabelFiles, Reading, read_label_files, read_names
from captchabench.labels.rules import OF_NAME, RULES, require_rule

# Scores this close are equal. Texts have lower scores than classes, since their lengths count, so that a text and a
# class both fit if they are above _FITTING.
_EQUAL_SCORES = 0.1
_FITTING = 0.5
# Readings that differ in a smaller share of their labels are taken by score alone.
_EQUAL_LABELS = 0.05
# The share of images that a label file must name to stand above all rules on names.
_NAMED = 0.5


def find_labels(path: Path, rule: str = "", option: str = "--labels") -> LabelledImages:
    """The images at `path` with their labels.

    rule: a name in RULES, a label file's path in the set, or either of `file:COLUMN` and `PATH:COLUMN`; inferred if
    empty. option: what a rule is given by, for messages. Raises InputError if the images cannot be read, if no rule
    finds labels, and if two fit equally.
    """
    images = open_images(path)
    paths = [member.path for member in images.members]
    if rule:
        reading, unused = _given(images, paths, rule, option)
    else:
        files = read_label_files(images)
        reading, unused = _inferred(path, paths, files, option), len(files.unused)
    undecoded = () if isinstance(images, ParquetImages) else images.undecoded
    if undecoded and (reading.of == "folder" or reading.of in OF_NAME):
        raise InputError(
            f"{path}: names are not UTF-8, so labels cannot be read from them: {_and_more(undecoded)}; rename them, "
            "for example with convmv"
        )
    return _result(images, reading, unused)


def _given(images: Images, paths: Sequence[str], rule: str, option: str) -> tuple[Reading, int]:
    """The reading by the rule that the user named, and the number of label files that it does not use."""
    if rule in RULES and RULES[rule].of_path:
        (reading,) = read_names(paths, [rule])
        return reading, 0 if isinstance(images, ParquetImages) else len(images.label_files)
    file, _, column = rule.partition(":")
    members = () if isinstance(images, ParquetImages) else tuple(member.path for member in images.label_files)
    if file not in members:
        require_rule(file, option)
    files = read_label_files(images, file if file in members else "", column)
    of = file if file in RULES else "file"
    readings = [reading for reading in files.readings if reading.of == of]
    if not readings:
        why = _and_more(files.problems) if files.problems else "no such labels of these images"
        raise InputError(f"{images.path}: {option} {rule}: {why}")
    return _best(images.path, paths, readings, option), len(files.unused)


def _inferred(path: Path, paths: Sequence[str], files: LabelFiles, option: str) -> Reading:
    """The reading that fits best: of label files if one names most images, else of names."""
    named = [r for r in files.readings if sum(map(bool, r.labels)) >= _NAMED * len(paths)]
    stems, *splits = read_names(paths, OF_NAME)
    (folders,) = read_names(paths, ["folder"])
    # A hyphen in arithmetic is a minus sign.
    names = [stems, folders] if are_expressions(list(filter(None, stems.labels))) else [stems, *splits, folders]
    for candidates in (named, [*names, *files.readings]):
        different = {reading.labels: reading for reading in reversed(candidates)}
        usable = [reading for labels, reading in different.items() if not weigh(labels, reading.of).objection]
        if usable:
            return _best(path, paths, usable[::-1], option)
    if len(named) == 1:
        return named[0]
    objections = [f"{reading.rule}: {weigh(reading.labels, reading.of).objection}" for reading in (stems, folders)]
    if files.unused:
        objections.append(f"{_and_more(files.unused)}: not understood as a label file")
    reasons = "; ".join([*([_and_more(files.problems)] if files.problems else []), *objections])
    raise InputError(
        f"{path}: no rule finds labels ({reasons}); put a label file with path<TAB>label beside the images, "
        f"or name a rule with {option}"
    )


def _and_more(texts: Sequence[str]) -> str:
    """The first of several texts, and how many there are besides."""
    return texts[0] + (f" (and {len(texts) - 1:,} more)" if len(texts) > 1 else "")


def _best(path: Path, paths: Sequence[str], readings: Sequence[Reading], option: str) -> Reading:
    """The reading with the highest score. Raises InputError if another one fits equally and reads other labels."""
    scored: list[tuple[Evidence, Reading]] = [(weigh(reading.labels, reading.of), reading) for reading in readings]
    scored.sort(key=lambda pair: -pair[0].score)
    evidence, best = scored[0]
    for other_evidence, other in scored[1:]:
        lowest = evidence.score - _EQUAL_SCORES if other_evidence.task == evidence.task else _FITTING
        if other_evidence.score < lowest:
            continue
        differing = [i for i, pair in enumerate(zip(best.labels, other.labels, strict=True)) if pair[0] != pair[1]]
        if len(differing) > _EQUAL_LABELS * len(paths):
            raise InputError(_undecided(path, paths[differing[0]], differing[0], best, other, option))
    return best


def _undecided(path: Path, image: str, index: int, one: Reading, other: Reading, option: str) -> str:
    readings = " and ".join(f"'{visible(r.labels[index] or '', 60)}' by {r.rule}" for r in (one, other))
    options = " or ".join(f"{option} '{r.rule}'" if " " in r.rule else f"{option} {r.rule}" for r in (one, other))
    return f"{path}: two rules fit equally: '{visible(image, 100)}' is {readings}; decide with {options}"


def _result(images: Images, reading: Reading, unused: int) -> LabelledImages:
    entries = []
    rejects = list(reading.rejects)
    rejected = {reject.path for reject in rejects if reject.reason is Reason.TWO_LABELS}
    for member, label in zip(images.members, reading.labels, strict=True):
        if label:
            entries.append(Labelled(member, label))
        elif label is not None:
            rejects.append(Reject(member.path, Reason.EMPTY_LABEL, f"by {reading.rule}"))
        elif member.path not in rejected:
            rejects.append(Reject(member.path, Reason.IMAGE_WITHOUT_LABEL, f"by {reading.rule}"))
    if not entries:
        raise InputError(f"{images.path}: {reading.rule} finds no label of {len(images.members):,} images; try another")
    skipped = dict(images.skipped) | ({"not_a_label_file": unused} if unused else {})
    return LabelledImages(
        source=images,
        rule=reading.rule,
        task=task_of([entry.label for entry in entries]),
        entries=tuple(entries),
        rejects=tuple(sorted(rejects)),
        skipped={reason: number for reason, number in skipped.items() if number},
    )
