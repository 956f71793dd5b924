"""`python -m captchabench`: the command line, where its script is not on the path."""

from captchabench.cli.app import app

app()
