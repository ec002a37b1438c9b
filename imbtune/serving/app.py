"""The web application: the list of studies, and a live report for each."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from imbtune.errors import StudyError
from imbtune.report.pages.rendering import SCRIPTS, rendered, vendored
from imbtune.serving.pages import Page, Pages

COOKIE = "imbtune_token"
YEAR = 365 * 86400
HEADERS = {  # of every answer
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def make_app(path: str, token: str | None, hosts: Sequence[str]) -> Starlette:
    """The application for the studies under a folder. It only reads.

    Args:
        path: the folder or URI of the studies, or of one study.
        token: that a browser must know; None for everybody on this machine.
        hosts: names under which the server is addressed, of which others are refused, so that no
            web page of another site can read the studies; `*` for any.
    """
    pages = Pages(path)

    async def index(request: Request) -> Response:
        return _answer(request, await pages.index())

    async def study(request: Request) -> Response:
        return _answer(request, await pages.study(request.path_params["name"]))

    async def script(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in SCRIPTS:
            return PlainTextResponse("not found", 404)
        headers = {"Cache-Control": f"private, max-age={YEAR}, immutable"}
        return Response(vendored(name), media_type="text/javascript", headers=headers)

    middleware = [
        Middleware(GZipMiddleware, minimum_size=1000, compresslevel=5),
        Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False),
        Middleware(_Headers),
    ]
    if token:
        middleware.append(Middleware(_Token, token=token))
    return Starlette(
        routes=[
            Route("/", index),
            Route("/study/{name:path}", study),
            Route("/scripts/{version}/{name}.js", script),
        ],
        middleware=middleware,
        exception_handlers={StudyError: _study_error},
    )


def _answer(request: Request, page: Page) -> Response:
    headers = {"ETag": page.etag, "Cache-Control": "no-cache"}
    if page.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return HTMLResponse(page.html, headers=headers)


def _study_error(request: Request, error: Exception) -> Response:
    page = rendered(
        "problem.html", title="imbtune", message=str(error), interactive=False, live='"'
    )
    return HTMLResponse(page.encode(errors="replace"), 404)


class _Headers:
    """Adds `HEADERS` to every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message["headers"] = [*message["headers"], *found]
            await send(message)

        await self._app(scope, receive, with_headers)


class _Token:
    """Lets only browsers in that have the token: in the address once, from then on in a cookie."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        response: ASGIApp = self._app
        given = request.query_params.get("token")
        if given is not None and self._is_right(given):
            target = quote(request.url.path, safe="/%")
            moved = RedirectResponse(target, 303)
            moved.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            response = moved
        elif not self._is_right(request.cookies.get(COOKIE, "")):
            response = PlainTextResponse(
                "This server needs the token: open the address that imbtune serve printed.\n", 401
            )
        await response(scope, receive, send)

    def _is_right(self, given: str) -> bool:
        return secrets.compare_digest(given.encode(), self._token.encode())
