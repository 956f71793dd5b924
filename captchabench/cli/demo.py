"""The command `captchabench demo`. Its imports are inside it: other commands do not need a web server."""

from pathlib import Path
from typing import Annotated

import typer


def demo(
    models: Annotated[Path, typer.Option(help="The folder of trained models.")] = Path("data/models"),
    data: Annotated[Path, typer.Option(help="The folder of images and predictions to browse.")] = Path("data"),
    report: Annotated[Path, typer.Option(help="The report page, which is served too.")] = Path("reports/index.html"),
    host: Annotated[
        str, typer.Option(help="The address to listen on. Any but loopback is open to other machines.")
    ] = "127.0.0.1",
    allow_name: Annotated[
        list[str] | None,
        typer.Option(
            help="Another name of this machine in addition to its address, such as demo.lan. "
            "For a reverse proxy, its address, such as https://demo.example. May be repeated."
        ),
    ] = None,
    root_path: Annotated[
        str,
        typer.Option(
            help="The path under which a proxy serves the demo, such as /services/demo. "
            "Needed only if the proxy passes it on; one that removes it needs nothing."
        ),
    ] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port; 0 chooses a free one.")] = 8000,
    max_batch: Annotated[int, typer.Option(min=1, max=1024, help="Largest batch of images.")] = 128,
    max_wait: Annotated[float, typer.Option(min=0, max=1000, help="Milliseconds to wait for a batch to fill.")] = 2.0,
    max_upload: Annotated[int, typer.Option(min=1, max=256, help="Largest request body in MiB.")] = 8,
) -> None:
    """Serve a page to try trained models on; it shows how they read. Runs on this machine until Ctrl-C."""
    from captchabench.demo.limits import Batching, DemoLimits
    from captchabench.demo.reading import Reader
    from captchabench.demo.samples import Library
    from captchabench.demo.serve import find_models, serve
    from captchabench.demo.service import Service

    usable = find_models(models)
    for reason in usable.left_out:
        typer.echo(f"left out: {reason}", err=True)
    limits = DemoLimits(upload=max_upload << 20)
    reader = Reader(usable.folders, limits.pixels)
    batching = Batching(size=max_batch, seconds=max_wait / 1000)
    service = Service(usable.abouts, reader, Library(data), report, limits, batching)
    serve(service, host, port, allow_name or (), root_path)
