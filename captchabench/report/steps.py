"""Pictures of how a model read an image."""

from dataclasses import asdict
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from captchabench.inference.results import Explanation
from captchabench.networks.readings import Step
from captchabench.storage.files import replacing_file, write_json

# In pixels: width of the enlarged picture, heights of the rows below it, gap between them.
_WIDTH = 1000
_SYMBOLS, _BARS, _CROPS, _GAP = 30, 60, 96, 6
_PAPER, _INK, _MUTED, _ACCENT = (255, 255, 255), (30, 30, 30), (150, 150, 150), (31, 100, 200)
_NOTHING = "·"


def write_steps(folder: Path, explanation: Explanation) -> None:
    """Write the image at each stage of reading, and the steps of the model as numbers.

    1-grey.png and 2-normalised.png have the original pixels. 3-KIND.png is enlarged and shows each step's symbol,
    with a bar for its probability. steps.json has all steps.
    """
    _write_picture(folder / "1-grey.png", Image.fromarray(explanation.grey))
    _write_picture(folder / "2-normalised.png", Image.fromarray(explanation.picture))
    if explanation.steps.steps:
        name = explanation.steps.kind.replace(" ", "-")
        _write_picture(folder / f"3-{name}.png", draw_steps(explanation))
    steps = [{k: v for k, v in asdict(step).items() if k != "crop"} for step in explanation.steps.steps]
    prediction = {k: v for k, v in asdict(explanation.prediction).items() if k != "alternatives"}
    write_json(folder / "steps.json", {**prediction, "kind": explanation.steps.kind, "steps": steps})


def draw_steps(explanation: Explanation) -> Image.Image:
    """The normalised image, enlarged, with its steps marked. Below each step: its symbol, probability and crop."""
    height, width = explanation.picture.shape
    scale = max(1, _WIDTH // width)
    steps = explanation.steps.steps
    rows = sorted({step.top for step in steps})
    with_crops = any(step.crop is not None for step in steps)
    below = _SYMBOLS + _BARS + (_CROPS if with_crops else 0) + 3 * _GAP
    if len(rows) > 1:  # symbols of several rows are written into the picture itself
        below = 0
    sheet = Image.new("RGB", (width * scale, height * scale + below), _PAPER)
    enlarged = Image.fromarray(explanation.picture).resize((width * scale, height * scale), Image.Resampling.NEAREST)
    sheet.paste(enlarged, (0, 0))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(22)
    for step in steps:
        box = (step.left * scale, step.top * scale, step.right * scale - 1, step.bottom * scale - 1)
        has_symbol = bool(step.symbol)
        if has_symbol or explanation.steps.kind != "time steps":
            draw.rectangle(box, outline=_ACCENT if has_symbol else _MUTED, width=2)
        middle = (box[0] + box[2]) / 2
        if not below:
            draw.text((middle, box[3] - 4), _caption(step), _ACCENT, font, "ms", stroke_width=2, stroke_fill=_PAPER)
            continue
        y = height * scale + _GAP
        draw.text((middle, y + _SYMBOLS / 2), step.symbol or _NOTHING, _INK if has_symbol else _MUTED, font, "mm")
        y += _SYMBOLS
        half = max(1.0, min((box[2] - box[0]) / 2 - 2, 12))
        top = y + _BARS * (1 - min(1.0, max(0.0, step.probability)))
        draw.rectangle((middle - half, top, middle + half, y + _BARS), fill=_ACCENT if has_symbol else _MUTED)
        if step.crop is not None:
            crop = Image.fromarray(255 - step.crop)
            crop = crop.resize((crop.width * _CROPS // crop.height, _CROPS), Image.Resampling.NEAREST)
            sheet.paste(crop, (round(middle - crop.width / 2), y + _BARS + _GAP))
    return sheet


def _caption(step: Step) -> str:
    return f"{step.symbol or _NOTHING} {step.probability:.2f}"


def _write_picture(path: Path, picture: Image.Image) -> None:
    with replacing_file(path) as temporary:
        picture.save(temporary, "PNG")
