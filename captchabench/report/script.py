"""Vega-Lite and its embedder as one script, from the installed vl-convert: no network, no copy kept."""

import vl_convert

# DVC's plots and the page both call this name.
_SNIPPET = "window.vegaEmbed = vegaEmbed;"


def vega_script() -> str:
    """JavaScript of about 0.9 MB that defines `vegaEmbed`."""
    return str(vl_convert.javascript_bundle(_SNIPPET))
