"""The routes for browsers: the page, its static files, the report and the API documentation."""

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, Response
from fastapi.staticfiles import StaticFiles

from captchabench.demo.guard import REPORT
from captchabench.demo.refusals import Refused
from captchabench.demo.service import Service

router = APIRouter(include_in_schema=False)

_PAGES = Path(str(files("captchabench.demo"))) / "pages"
# The stylesheet of the report, so that both look alike.
_STYLE = Path(str(files("captchabench.report"))) / "page.css"
# Served from here, since FastAPI's default page loads them from the network.
_SWAGGER = Path(str(files("fastapi_offline"))) / "static"


@router.get("/")
async def page() -> FileResponse:
    """The page to try models on."""
    return FileResponse(_PAGES / "page.html")


@router.get("/docs")
async def docs() -> FileResponse:
    """The API documentation, with forms to try it."""
    return FileResponse(_PAGES / "docs.html")


@router.get("/static/page.css")
async def style() -> FileResponse:
    """The stylesheet shared with the report."""
    return FileResponse(_STYLE)


@router.get(REPORT)
async def report(request: Request) -> Response:
    """The page that the `report` stage wrote."""
    service: Service = request.app.state.service
    path = service.report
    if not path.is_file():
        raise Refused(404, f"there is no report at {service.public(str(path))}; run `dvc repro report`")
    return FileResponse(path)


def mount(app: FastAPI) -> None:
    """Add the routes and the folders of static files."""
    app.include_router(router)
    app.mount("/static/swagger", StaticFiles(directory=_SWAGGER))
    app.mount("/static", StaticFiles(directory=_PAGES))
