"""The routes that people use: the page, its files, the report, the description of the interface."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

from captchabench.demo.guard import REPORT
from captchabench.demo.refusals import Refused

router = APIRouter(include_in_schema=False)

_PAGES = Path(str(files("captchabench.demo"))) / "pages"
# The report's colours and type, so that both look like one.
_STYLE = Path(str(files("captchabench.report"))) / "page.css"
# FastAPI's own page loads these from the network.
_SWAGGER = Path(str(files("fastapi_offline"))) / "static"


@router.get("/")
async def page() -> FileResponse:
    """The page to try models on."""
    return FileResponse(_PAGES / "page.html")


@router.get("/docs")
async def docs() -> FileResponse:
    """The interface, for a person to read and try."""
    return FileResponse(_PAGES / "docs.html")


@router.get("/static/page.css")
async def style() -> FileResponse:
    """The style that the report has too."""
    return FileResponse(_STYLE)


@router.get(REPORT)
async def report(request: Request) -> Response:
    """The page that the `report` stage wrote."""
    path: Path = request.app.state.service.report
    if not path.is_file():
        raise Refused(404, f"there is no report at {path}; run `dvc repro report`")
    return FileResponse(path)


def mount(app: FastAPI) -> None:
    """Add the routes and the folders of files."""
    app.include_router(router)
    app.mount("/static/swagger", StaticFiles(directory=_SWAGGER))
    app.mount("/static", StaticFiles(directory=_PAGES))
