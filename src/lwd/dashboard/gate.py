"""Who may see the page and act on it: the service's tokens, in a header or in a cookie.

A browser cannot put a header on a picture or on a stream of events, so that a token which a person
has typed once becomes a cookie that scripts cannot read. Whatever changes something must come from
the page itself.
"""

from collections.abc import Awaitable, Callable
from urllib.parse import urlparse

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from lwd.store.access import OPERATE, READ, Access, Grant, RefusedError
from lwd.store.process import LOOPBACK

COOKIE = "lwd_token"
MAX_BODY_BYTES = 64 * 1024
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Content security policy: nothing from elsewhere, nothing inline."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Gate:
    """Checks requests against the grants of a tokens file."""

    def __init__(self, access: Access, *, secure: bool) -> None:
        self.access, self.secure = access, secure

    def check(self, request: Request, scope: str) -> Grant | None:
        """The grant of a request, None where everybody may; RefusedError without the scope."""
        return self.access.check(self.credentials(request), scope)

    def credentials(self, request: Request) -> str | None:
        """What a request shows of who sends it, as a header; None for nothing."""
        given = request.headers.get("authorization")
        cookie = request.cookies.get(COOKIE)
        return given or (f"Bearer {cookie}" if cookie else None)

    def scopes(self, request: Request) -> list[str]:
        """Which of reading and operating a request may."""
        return [scope for scope in (READ, OPERATE) if self._may(request, scope)]

    def sign_in(self, response: Response, token: str) -> None:
        """Let the browser keep a token that may read; RefusedError for any other."""
        self.access.check(f"Bearer {token}", READ)
        response.set_cookie(COOKIE, token, httponly=True, samesite="strict", secure=self.secure)

    def _may(self, request: Request, scope: str) -> bool:
        try:
            self.check(request, scope)
        except RefusedError:
            return False
        return True

    async def guard(
        self, request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Refuse what a foreign page may have sent; set the headers of every answer."""
        refusal = self._foreign(request)
        response = refusal if refusal is not None else await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if not request.url.path.startswith("/static/"):
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    def _foreign(self, request: Request) -> Response | None:
        """An answer that refuses, None where nothing is wrong."""
        host = request.headers.get("host", "")
        if self.access.open and _name(host) not in LOOPBACK:
            # Else any web page could reach an open one through a name that leads to 127.0.0.1.
            return _refuse(403, f"This page answers as 127.0.0.1 or localhost, not as {host[:80]}.")
        if request.method in ("GET", "HEAD"):
            return None
        origin = request.headers.get("origin")
        if origin is not None and urlparse(origin).netloc != host:
            return _refuse(403, "Only the page itself may change anything.")
        length = request.headers.get("content-length", "")
        if not length.isdigit() or int(length) > MAX_BODY_BYTES:
            return _refuse(413, f"Send a body of at most {MAX_BODY_BYTES} bytes with its length.")
        if int(length) and not request.headers.get("content-type", "").startswith(
            "application/json"
        ):
            return _refuse(415, "Send JSON, with Content-Type: application/json.")
        return None


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlparse(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _refuse(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)
