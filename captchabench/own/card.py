"""The card of a model: YAML that Hugging Face's hub reads, then Markdown."""

from collections.abc import Mapping
from typing import Any

import yaml

from captchabench import __version__
from captchabench.models import read_saved
from captchabench.own.results import Results, ends, score_ends
from captchabench.report.tables import percent


def model_card(results: Results, figures: Mapping[str, Any]) -> str:
    """The content of README.md in the folder of the model, from its config.json and what it read."""
    config = read_saved(results.run.weights)
    about = config.about
    scores = figures["result"]
    if results.grids:
        reads = f"grids of 3×3 tiles, of the classes {', '.join(about.class_names)}"
        metrics = {"macro F1": ("f1", scores["macro_f1"]), "tiles right": ("accuracy", scores["tiles_right"])}
        rows = [
            ("macro F1", f"{scores['macro_f1']:.3f}", score_ends(scores["macro_f1_interval"])),
            ("tiles right", percent(scores["tiles_right"]), ends(scores["tiles_right_interval"])),
            ("challenges solved", percent(scores["challenges_solved"]), ends(scores["challenges_solved_interval"])),
        ]
        held_out = f"{scores['tiles']:,} tiles"
    else:
        low, high = about.min_length, about.max_length
        reads = (
            f"texts of {low if low == high else f'{low} to {high}'} symbols out of {len(about.alphabet)}: "
            f"`{about.alphabet}`"
        )
        metrics = {"exact match": ("accuracy", scores["exact"]), "CER": ("cer", scores["cer"])}
        rows = [("exact match", percent(scores["exact"]), ends(scores["exact_interval"]))]
        if "exact_folded" in scores:
            rows.append(("case-folded", percent(scores["exact_folded"]), ends(scores["exact_folded_interval"])))
        cer = scores["cer_interval"]
        rows.append(("CER", percent(scores["cer"]), ends(cer) if cer else "–"))
        held_out = f"{scores['images']:,} images"
    trained_on = figures["curve"][-1]["training_images"]
    what = "tiles" if results.grids else "images"
    head = {
        "library_name": "captchabench",
        "pipeline_tag": "image-classification" if results.grids else "image-to-text",
        "tags": ["captcha", "ocr", about.model],
        "model-index": [
            {
                "name": f"{about.dataset}-{about.model}",
                "results": [
                    {
                        "task": {"type": "image-classification" if results.grids else "image-to-text"},
                        "dataset": {"name": about.dataset, "type": about.dataset},
                        "metrics": [
                            {"type": kind, "name": name, "value": round(value, 6)}
                            for name, (kind, value) in metrics.items()
                        ],
                    }
                ],
            }
        ],
    }
    table = "\n".join(f"| {name} | {value} | {interval} |" for name, value, interval in rows)
    start = f" Training started from {about.pretraining} weights." if about.pretraining else ""
    return f"""---
{yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip()}
---

# {about.dataset}, read by {about.model}

It reads {reads}. Images of any size are made grey and resized to {about.width}×{about.height} pixels ({about.resize}).

## Results

{held_out} that it was not trained on, of the same set:

| | | 95 % interval |
|---|--:|--:|
{table}

## Training

{trained_on:,} {what} of `{figures["set"]["file"]}`, {about.parameter_count:,} learned numbers, captchabench \
{__version__}.{start} `config.json` has all parameters.

## Use

```python
import captchabench

recogniser = captchabench.load_recogniser("FOLDER_OF_THIS_FILE")
print(recogniser.predict(["picture.png"])[0].text)
```

## Limits

It reads images like those that it was trained on, and no others: a new font or another site takes new training. It
was measured on one random fifth of one set.
"""
