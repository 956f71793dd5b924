"""What a run prints: what was found, what is done about it, what was measured, and what to type next."""

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from captchabench.errors import visible
from captchabench.own.preparing import FOLDS, Found, Prepared
from captchabench.own.results import TARGETS, Results, ends, score_ends
from captchabench.own.runs import Run
from captchabench.report.tables import percent

if TYPE_CHECKING:
    from captchabench.own.training import Report

_SHOWN = 12


def of_found(found: Found) -> str:
    """The rule, five examples, the alphabet or the classes, lengths, sizes, and what is no image."""
    images = found.images
    label_of = dict(zip(images.entries, found.labels, strict=True))
    examples = [f"{visible(e.image.path, 60)} is '{visible(label_of[e], 40)}'" for e in images.examples]
    what = "tiles" if found.tiles else "images"
    rows = [
        ("labels", f"{images.rule} ({len(found.labels):,} labelled {what})"),
        *(("", example) for example in examples),
    ]
    if found.tiles:
        rows.append(("classes", f"{len(found.classes)}: {_listed(found.classes)}"))
    else:
        case = ", upper and lower case" if found.case_occurs else ""
        rows.append(("alphabet", f"{visible(found.alphabet)} ({len(found.alphabet)} symbols{case})"))
        rows.append(("lengths", _listed([f"{length} ({count:,}×)" for length, count in found.lengths.items()])))
    rows.append(("sizes", _listed([f"{width}x{height}" for width, height in found.sizes])))
    skipped = [f"{count:,} {reason.replace('_', ' ')}" for reason, count in images.skipped.items()]
    if skipped:
        rows.append(("other files", ", ".join(skipped)))
    return _aligned(rows)


def of_prepared(prepared: Prepared) -> str:
    """How many images are used, and why others are not."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in prepared.left_out.items())
    listed = f", listed in {prepared.folder / 'rejects' / prepared.found.name}.csv" if reasons else ""
    return _aligned([("used", f"{prepared.kept:,}"), ("left out", f"{reasons or 'none'}{listed}")])


def of_plan(run: Run) -> str:
    """The model, the size of its images, and what is held out."""
    size = run.prepared.found.size
    held = f"each of {FOLDS} folds in turn" if len(run.folds) > 1 else "a fifth of the images"
    return _aligned([("model", f"{run.plan.model} at {size.width}x{size.height} pixels; held out: {held}")])


def of_results(results: Results, figures: Mapping[str, Any]) -> str:
    """The metrics with their intervals, the curve, and the number of suspects."""
    scores = figures["result"]
    if results.grids:
        rows = [
            ("macro F1", f"{scores['macro_f1']:.3f} ({score_ends(scores['macro_f1_interval'])})"),
            *(
                (title, f"{percent(scores[name])} ({ends(scores[f'{name}_interval'])}) of {scores[total]:,}")
                for title, name, total in (
                    ("tiles right", "tiles_right", "tiles"),
                    ("challenges", "challenges_solved", "challenges"),
                )
            ),
            *(
                (name, f"macro F1 {other['macro_f1']:.3f}, {percent(other['tiles_right'])} of tiles right")
                for name, other in figures["baseline"].items()
            ),
        ]
    else:
        rows = [
            ("exact match", f"{percent(scores['exact'])} ({ends(scores['exact_interval'])}) of {scores['images']:,}")
        ]
        if "exact_folded" in scores:
            folded = f"{percent(scores['exact_folded'])} ({ends(scores['exact_folded_interval'])})"
            rows.append(("case-folded", folded))
        rows.append(("CER", f"{percent(scores['cer'])}" + _optional(scores["cer_interval"])))
    rows += [
        (
            f"from {point['training_images']:,}",
            f"{percent(point['read'])} ({ends(point['interval'])}), measured",
        )
        for point in figures["curve"]
    ]
    if doubled := figures["doubled"]:
        rows.append(
            (
                f"from {doubled['training_images']:,}",
                f"{percent(doubled['read'])} ({ends(doubled['interval'])}), forecast",
            )
        )
        last = figures["curve"][-1]["training_images"]
        further = {f"{t:.0%}": figures["training_images_needed"][f"{t:.0%}"] for t in TARGETS}
        named = [f"{target}: about {count:,}" for target, count in further.items() if count and count > 1.1 * last]
        # Those above it need more still.
        named += [f"{target}: more than {8 * last:,}" for target, count in further.items() if count is None][:1]
        if named:
            rows.append(("needed for", ", ".join(named)))
    rows.append(("suspects", f"{figures['suspects']:,} labels to look at, in suspects.csv and on the page"))
    return _aligned(rows)


def of_next(report: "Report") -> str:
    """The page, and the commands that can follow."""
    model, folder, page = (shlex.quote(str(part)) for part in (report.model, report.folder, report.page))
    name = report.figures["set"]["name"]
    models = shlex.quote(str(report.folder / "models"))
    return "\n".join(
        [
            f"page: {report.page}",
            f"model: {report.model}, the one that was measured: not trained on the images held out",
            "next:",
            f"  captchabench predict --model {model} PICTURE_OR_FOLDER",
            f"  captchabench export --onnx {model} {name}.onnx",
            f"  captchabench demo --models {models} --data {folder} --report {page}",
        ]
    )


def _aligned(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(f"{title:<12} {text}" for title, text in rows)


def _listed(texts: Sequence[str]) -> str:
    """Texts with commas; the rest is counted after a dozen."""
    more = f" and {len(texts) - _SHOWN:,} more" if len(texts) > _SHOWN else ""
    return ", ".join(visible(text, 60) for text in texts[:_SHOWN]) + more


def _optional(interval: Sequence[float] | None) -> str:
    return f" ({ends(interval)})" if interval else ""
