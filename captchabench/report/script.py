"""Vega-Lite and vega-embed as one script, taken from the installed vl-convert without a network."""

import vl_convert

# The page and DVC's plots call `vegaEmbed`.
_SNIPPET = "window.vegaEmbed = vegaEmbed;"


def vega_script() -> str:
    """JavaScript of about 0.9 MB that defines `vegaEmbed`."""
    return str(vl_convert.javascript_bundle(_SNIPPET))
