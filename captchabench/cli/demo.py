"""The command `captchabench demo`. What it needs is imported inside it: the others start without a web server."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    models: Annotated[Path, typer.Option(help="The folder of trained models.")] = Path("data/models"),
    data: Annotated[Path, typer.Option(help="Where raw images, shards and predictions are, to browse.")] = Path("data"),
    report: Annotated[Path, typer.Option(help="The report page to serve beside it.")] = Path("reports/index.html"),
    host: Annotated[
        str, typer.Option(help="The address to listen on. Others than loopback let others in.")
    ] = "127.0.0.1",
    allow_name: Annotated[
        list[str] | None,
        typer.Option(
            help="A name that people use for this machine, beside its address: demo.lan. "
            "For a proxy in front, its address: https://demo.example. As often as needed."
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    max_batch: Annotated[int, typer.Option(min=1, max=1024, help="Images read together at most.")] = 128,
    max_wait: Annotated[float, typer.Option(min=0, max=1000, help="Milliseconds to wait for others to join.")] = 2.0,
    max_upload: Annotated[int, typer.Option(min=1, max=256, help="MiB a request may bring.")] = 8,
) -> None:
    """Open a page to try trained models on; it shows how they read. Runs on this machine, until Ctrl-C."""
    from captchabench.demo.limits import Batching, DemoLimits
    from captchabench.demo.reading import Reader
    from captchabench.demo.samples import Library
    from captchabench.demo.serve import find_models, serve
    from captchabench.demo.service import Service

    found = find_models(models)
    for why in found.left_out:
        typer.echo(f"left out: {why}", err=True)
    limits = DemoLimits(upload=max_upload << 20)
    reader = Reader(found.folders, limits.pixels)
    batching = Batching(size=max_batch, seconds=max_wait / 1000)
    serve(Service(found.abouts, reader, Library(data), report, limits, batching), host, port, allow_name or ())
