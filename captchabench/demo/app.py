"""The FastAPI application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from captchabench import __version__
from captchabench.demo import api, site
from captchabench.demo.admission import Busy
from captchabench.demo.guard import Guard
from captchabench.demo.names import Names
from captchabench.demo.reading import Stopped
from captchabench.demo.refusals import Refused
from captchabench.demo.service import Service
from captchabench.errors import InputError

_RETRY = {"retry-after": "1"}


def create_app(service: Service, names: Names | None = None, root_path: str = "") -> ASGIApp:
    """The demo as an ASGI application.

    names: the host names that it accepts; None: any. root_path: the path under which a proxy serves it, such as
    "/services/demo"; requests may have it or not.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="captchabench demo",
        version=__version__,
        description="Read images with the trained models of the benchmark. Send files; addresses are not fetched.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        # Relative to the document, since a proxy may serve the demo under a path.
        servers=[{"url": "."}],
        # Such a redirect is an absolute address, which leads out of that path.
        redirect_slashes=False,
    )
    app.state.service = service
    app.include_router(api.router)
    site.mount(app)
    _explain_failures(app, service)
    _name_models(app, list(service.abouts))
    # The outermost layer, so that it also covers FastAPI's answers to uncaught errors.
    return Guard(app, service.monitor, names, root_path)


def _name_models(app: FastAPI, names: list[str]) -> None:
    """List the models in the OpenAPI document."""
    describe = app.openapi

    def described() -> dict[str, Any]:
        document = describe()
        for path in document["paths"].values():
            for operation in path.values():
                for parameter in operation.get("parameters", []):
                    if parameter["name"] == "model":
                        schema = parameter["schema"]
                        schema.get("items", schema)["enum"] = names
        return document

    app.openapi = described  # type: ignore[method-assign]  # FastAPI documents this way to extend the schema


def _explain_failures(app: FastAPI, service: Service) -> None:
    """Answer every error with one line, as JSON."""

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        return _trouble(error.status, str(error), {"connection": "close"} if error.close else {})

    @app.exception_handler(Busy)
    async def busy(_: Request, error: Busy) -> JSONResponse:
        return _trouble(503, "too many images are waiting; try again in a second", _RETRY)

    @app.exception_handler(Stopped)
    async def stopped(_: Request, error: Stopped) -> JSONResponse:
        return _trouble(503, "the process that reads images was restarted; try again", _RETRY)

    @app.exception_handler(InputError)
    async def missing(_: Request, error: InputError) -> JSONResponse:
        return _trouble(404, service.public(str(error)))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return _trouble(422, f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> JSONResponse:
        return _trouble(error.status_code, error.detail, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def unexpected(_: Request, __: Exception) -> JSONResponse:
        # The exception also propagates to the server, which logs it to the terminal.
        return _trouble(500, "internal error; see the terminal that the demo runs in")


def _trouble(status: int, error: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": error}, status, headers)
