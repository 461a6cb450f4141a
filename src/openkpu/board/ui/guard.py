"""Who may talk to the page's server: only somebody who knows its address, and no page of another site.

A web page elsewhere can make a browser send requests to this computer, and with a name that it points here (DNS
rebinding) even read the answers. So the address holds a secret, the ``Host`` header must be this server's, and requests
that a browser marks as coming from another site are refused. Only this computer can connect at all.
"""

from __future__ import annotations

import hmac
import secrets
from email.message import Message
from typing import Final

HOST: Final = "127.0.0.1"
NAMES: Final = (HOST, "localhost")
HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Sent with every answer."""


def new_token() -> str:
    """A secret for the address, 128 bits."""
    return secrets.token_urlsafe(16)


def refusal(headers: Message[str, str], path: str, token: str, port: int) -> str | None:
    """Say why a request is refused; None when it is not. ``path`` is without its query."""
    hosts = [f"{name}:{port}" for name in NAMES]
    if headers.get("Host", "").lower() not in hosts:
        return f"This server answers as {' and '.join(hosts)} only."
    if (origin := headers.get("Origin")) is not None and origin.lower() not in [f"http://{h}" for h in hosts]:
        return "Another page must not use this one."
    if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return "Another page must not use this one."
    given = path.split("/")[1] if path.startswith("/") else ""
    if not hmac.compare_digest(given.encode("utf-8", "replace"), token.encode()):
        return "Open the whole address that kpu board printed; it is another one each time."
    return None
