"""The run: data, folds, weights, hardware and params.yaml."""

import platform
from html import escape

from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import Column, Row, table
from captchabench.report.sections.base import Section
from captchabench.report.sections.cost import machine
from captchabench.report.tables import source_note
from captchabench.studies.cost import SPEED


def section(findings: Findings, _: Figures) -> str:
    """A table of facts, and the text of params.yaml."""
    params = findings.params
    versions = ", ".join(f"{r.dataset} {r.version}" for r in findings.members)
    columns = ["device", "threads", "torch"]
    machines = findings.tables[SPEED].drop_nulls("device").select(columns).unique().sort(columns)
    facts = {
        "source of the images": source_note(findings.source),
        "dataset versions": versions,
        "size of the images": f"{params.normalize.width} × {params.normalize.height} pixels, greyscale"
        + (f"; grids {params.tiles.width} × {params.tiles.height}" if findings.grids else ""),
        "held-out folds": f"{', '.join(map(str, params.matrix.folds))} (numbered 0 to {params.folds.count - 1})",
        "models trained on union": ", ".join(params.matrix.union) or "none",
        "pretrained weights": "; ".join(_by_model(findings, "pretraining")) or "none",
        "arithmetic of training": "; ".join(_by_model(findings, "arithmetic")) or "no networks",
        "times measured on": "; ".join(map(machine, machines.iter_rows(named=True))),
        "page made on": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    rows = (Row([escape(name), escape(value)]) for name, value in facts.items())
    return (
        table("Every number above comes from this run.", [Column("fact"), Column("value", words=True)], rows)
        + "<details><summary>params.yaml</summary>"
        f'<pre tabindex="0">{escape(findings.params_text)}</pre></details>'
    )


def _by_model(findings: Findings, trait: str) -> list[str]:
    """Each value of a column of the leaderboard, after the models that have it."""
    values = findings.board.drop_nulls(trait).group_by(trait).agg("model").sort(trait)
    return [f"{', '.join(sorted(set(models)))}: {value}" for value, models in values.select(trait, "model").rows()]


SECTION = Section(140, "run", "Run", "What was run", section, tables=(SPEED,))
