"""A template for `dvc plots show` and `dvc plots diff` whose script is inside: `python -m` this, once.

DVC's own template loads Vega from the network. Written to .dvc/tmp/plots.html, which git ignores and
`plots.html_template` in .dvc/config names; without the file `dvc plots show` fails.
"""

from pathlib import Path

from captchabench.report.script import vega_script
from captchabench.storage.files import write_text

TEMPLATE = Path(".dvc/tmp/plots.html")


def plots_template() -> str:
    """HTML with the two places that DVC fills: a refresh tag and the plots."""
    # The script defines single letters; in a block of its own it leaves the names of DVC's scripts alone.
    return (
        '<!doctype html>\n<html>\n<head>\n<meta charset="utf-8">\n{refresh_tag}\n'
        "<title>captchabench plots</title>\n"
        f"<script>{{\n{vega_script()}\n}}</script>\n"
        "<style>body { font-family: system-ui, sans-serif; margin: 2rem; }</style>\n"
        "</head>\n<body>\n{plot_divs}\n</body>\n</html>\n"
    )


if __name__ == "__main__":
    write_text(TEMPLATE, plots_template())
