"""A small real OpenID Connect provider on loopback, over TLS: one user at a time, signed in already, and every way to lie.

It holds us to the flow as a good provider does: codes once, PKCE, the client's secret, the address it was told.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from provisioning.site_oidc import Provider
from tests.simulators.certificates import Authority
from tests.simulators.identity import MAKES
from tests.simulators.identity import Provider as Signer

CLIENT, SECRET = "isoward", "the-client: secret/of+ours"
ROLES = {"it_admin": ("Isoward Admins",), "auditor": ("isoward-auditors",), "viewer": ("isoward-viewers", "wards")}


@dataclass
class IdentityProvider:
    """Running while it is entered."""

    folder: Path
    redirect_uri: str = "http://testserver/sign-in/provider/callback"
    user: dict[str, Any] = field(
        default_factory=lambda: {"sub": "u-4711", "preferred_username": "hana", "name": "Hana Sato"}
    )
    groups: list[Any] = field(default_factory=lambda: ["isoward-viewers", "staff"])
    changes: dict[str, Any] = field(default_factory=dict)
    """Claims of the token that are not as they should be; None leaves one out."""
    token: Callable[[str], str] = field(default=lambda token: token)
    """What is made of a good token before it is given out."""
    extra: dict[str, str] = field(default_factory=dict)
    """What is added to the way back."""
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    """Answers in place of the real ones, by path."""
    algorithm: str = "ES256"
    published: Any = None
    """A key to publish in place of the one that signs."""
    heard: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.authority = Authority(self.folder)
        self.codes: dict[str, dict[str, str]] = {}
        self.signer = Signer(algorithm=self.algorithm, key=MAKES[self.algorithm]())

    def __enter__(self) -> Self:
        certificate, key = self.authority.sign("127.0.0.1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.serve(self, "")

            def do_POST(self) -> None:
                provider.serve(self, self.rfile.read(int(self.headers["Content-Length"])).decode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()
        self.signer.iss = self.url
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(10)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.server_address[1]}"

    @property
    def site(self) -> Provider:
        """What a site file would say of it."""
        return Provider(
            issuer=self.url,
            authorization_endpoint=f"{self.url}/authorize",
            token_endpoint=f"{self.url}/token",
            jwks_uri=f"{self.url}/jwks",
            ca_file=self.authority.file,
            timeout_s=2,
            client_id=CLIENT,
            redirect_uri=self.redirect_uri,
            username_claim="preferred_username",
            name_claim="name",
            groups_claim="groups",
            roles=ROLES,
        )

    def serve(self, request: BaseHTTPRequestHandler, body: str) -> None:
        path = urlsplit(request.path).path
        self.heard.append(path)
        status, kind, content, location = 200, "application/json", b"{}", ""
        if path in self.answers:
            status, content = self.answers[path]
            location = f"{self.url}/elsewhere" if status == 302 else ""
        elif path == "/authorize":
            status, location = 302, self.come_back(request.path)
        elif path == "/token":
            status, content = self._token(body, request.headers["Authorization"] or "")
        elif path == "/jwks":
            content = json.dumps({"keys": [self.jwk()]}).encode()
        else:
            status = 404
        request.send_response(status)
        request.send_header("Content-Type", kind)
        request.send_header("Content-Length", str(len(content)))
        if location:
            request.send_header("Location", location)
        request.end_headers()
        request.wfile.write(content)

    def come_back(self, address: str) -> str:
        """Where the browser is sent once its user has agreed."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["redirect_uri"] == self.redirect_uri
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return (
            f"{self.redirect_uri}?{urlencode({'code': code, 'state': asked['state'], 'iss': self.url, **self.extra})}"
        )

    def _token(self, body: str, authorization: str) -> tuple[int, bytes]:
        given = {name: values[0] for name, values in parse_qs(body).items()}
        asked = self.codes.pop(given.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(given.get("code_verifier", "").encode()).digest())
        basic = base64.b64encode(urlencode({"a": CLIENT})[2:].encode() + b":" + _quoted(SECRET)).decode()
        if asked is None or authorization != f"Basic {basic}" or given["redirect_uri"] != self.redirect_uri:
            return 400, b'{"error": "invalid_grant"}'
        if challenge.rstrip(b"=").decode() != asked["code_challenge"]:
            return 400, b'{"error": "invalid_grant"}'
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": CLIENT, "azp": None, "iat": now, "exp": now + 300, "nonce": asked["nonce"],
            "groups": self.groups, **self.user, **self.changes,
        }  # fmt: skip
        token = self.signer.signed(json.dumps({k: v for k, v in claims.items() if v is not None}).encode())
        return 200, json.dumps({"access_token": "x", "token_type": "Bearer", "id_token": self.token(token)}).encode()

    def jwk(self) -> dict[str, Any]:
        maker = RSAAlgorithm if self.algorithm == "RS256" else ECAlgorithm
        return {
            **maker.to_jwk((self.published or self.signer.key).public_key(), as_dict=True),
            "kid": self.signer.kid,
            "use": "sig",
        }


def _quoted(text: str) -> bytes:
    return urlencode({"a": text}).removeprefix("a=").replace("+", "%20").encode()
