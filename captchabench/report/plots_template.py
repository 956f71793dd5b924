"""The HTML template of `dvc plots show` and `dvc plots diff`, with Vega inside: run this module once.

DVC's own template loads Vega from the network. This one is written to .dvc/tmp/plots.html, which Git ignores.
`make setup` writes it and enters it in .dvc/config.local. In other environments DVC uses its own template, until

    python -m captchabench.report.plots_template && dvc config --local plots.html_template tmp/plots.html
"""

from pathlib import Path

from captchabench.report.script import vega_script
from captchabench.storage.files import write_text

TEMPLATE = Path(".dvc/tmp/plots.html")


def plots_template() -> str:
    """HTML with the two placeholders that DVC fills: the refresh tag and the plots."""
    # The bundle defines single-letter names. The block keeps them apart from those of DVC's scripts.
    return (
        '<!doctype html>\n<html>\n<head>\n<meta charset="utf-8">\n{refresh_tag}\n'
        "<title>captchabench plots</title>\n"
        f"<script>{{\n{vega_script()}\n}}</script>\n"
        "<style>body { font-family: system-ui, sans-serif; margin: 2rem; }</style>\n"
        "</head>\n<body>\n{plot_divs}\n</body>\n</html>\n"
    )


if __name__ == "__main__":
    write_text(TEMPLATE, plots_template())
