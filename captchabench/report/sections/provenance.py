"""What was run, where, on what."""

import platform
from html import escape

from captchabench.report.figures import Figures
from captchabench.report.findings import Findings
from captchabench.report.markup import Column, Row, table
from captchabench.report.sections.base import Section
from captchabench.report.tables import source_note
from captchabench.studies.cost import SPEED


def section(findings: Findings, _: Figures) -> str:
    """A table of facts, and params.yaml as written."""
    params = findings.params
    versions = ", ".join(f"{r.dataset} {r.version}" for r in findings.members)
    clock = ["device", "threads", "torch"]
    clocks = findings.tables[SPEED].drop_nulls("device").select(clock).unique().sort(clock)
    facts = {
        "source of the images": source_note(findings.source),
        "dataset versions": versions,
        "images": f"{params.normalize.height} × {params.normalize.width} pixels, grey"
        + (f"; grids {params.tiles.height} × {params.tiles.width}" if findings.grids else ""),
        "folds held out": f"{', '.join(map(str, params.matrix.folds))} of {params.folds.count}",
        "trained on the merged datasets": ", ".join(params.matrix.union) or "none",
        "weights started from": "; ".join(_by_model(findings, "pretraining")) or "random ones",
        "trained in": "; ".join(_by_model(findings, "arithmetic")),
        "timed on": "; ".join(
            f"{device} × {threads}" + (f", torch {torch}" if torch else "") for device, threads, torch in clocks.rows()
        ),
        "page made on": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
    }
    rows = (Row([escape(name), escape(value)]) for name, value in facts.items())
    return (
        table("Every number above comes from this run.", [Column("what"), Column("value", words=True)], rows)
        + "<details><summary>params.yaml</summary>"
        f'<pre tabindex="0">{escape(findings.params_text)}</pre></details>'
    )


def _by_model(findings: Findings, trait: str) -> list[str]:
    """Each value of a column of the leaderboard, with the models that have it."""
    found = findings.board.drop_nulls(trait).group_by(trait).agg("model").sort(trait)
    return [f"{value} ({', '.join(sorted(set(models)))})" for value, models in found.select(trait, "model").rows()]


SECTION = Section(140, "run", "Run", "What was run", section, tables=(SPEED,))
