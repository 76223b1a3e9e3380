"""A hospital's own servers, small and real: a syslog listener over TLS, a mail server with STARTTLS, an HTTPS endpoint."""

from __future__ import annotations

import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path
from socketserver import StreamRequestHandler, TCPServer
from typing import Any

from aiosmtpd.controller import Controller

from provisioning.site_channels import Channel

NAME = "logs.hospital.example"


@dataclass(frozen=True)
class Pki:
    """A CA and one certificate of it, for a name and for 127.0.0.1."""

    folder: Path
    ca: Path

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.pem", self.folder / "server.key")
        return context


def pki(folder: Path) -> Pki:
    folder.mkdir(exist_ok=True)

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    openssl(*new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=Hospital CA")
    names = f"subjectAltName=DNS:{NAME},IP:127.0.0.1"
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", names, "-addext", "basicConstraints=critical,CA:FALSE")
    openssl(*new, "-keyout", "server.key", "-out", "server.pem", "-subj", f"/CN={NAME}", *signed)
    return Pki(folder, folder / "ca.pem")


@dataclass
class Heard:
    """What a server was told, and where it listens."""

    port: int = 0
    said: list[Any] = field(default_factory=list)


@contextmanager
def _serving(server: TCPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Tls(TCPServer):
    """Each connection is wrapped in its handler, so that a refused handshake ends that one alone."""

    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust us hangs up: that is what is tested."""


@contextmanager
def syslog(trust: Pki) -> Iterator[Heard]:
    heard = Heard()

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            with trust.context().wrap_socket(self.request, server_side=True) as wire:
                data = b""
                while part := wire.recv(4096):
                    data += part
                while data:  # octet counting: a number, a space, that many bytes
                    size, _, rest = data.partition(b" ")
                    heard.said.append(rest[: int(size)].decode())
                    data = rest[int(size) :]

    with _Tls(("127.0.0.1", 0), Handler) as server, _serving(server):
        heard.port = server.server_address[1]
        yield heard


@contextmanager
def mail(trust: Pki | None) -> Iterator[Heard]:
    """Without a certificate it offers no STARTTLS."""
    heard = Heard()

    class Handler:
        async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd calls it so
            heard.said.append(
                (envelope.mail_from, envelope.rcpt_tos, envelope.content.decode(), session.ssl is not None)
            )
            return "250 taken"

    options: dict[str, Any] = {"tls_context": trust.context(), "require_starttls": True} if trust else {}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    controller = Controller(Handler(), hostname="127.0.0.1", port=port, **options)
    controller.start()
    heard.port = port
    yield heard
    controller.stop()


@contextmanager
def http(trust: Pki | None, *, status: int = 204) -> Iterator[Heard]:
    heard = Heard()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            heard.said.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
            self.send_response(status)
            self.send_header("location", f"http://127.0.0.1:{heard.port}/elsewhere")
            self.end_headers()

        def log_message(self, *arguments: Any) -> None:
            """Nothing on stderr."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that does not trust us hangs up
    if trust:
        server.socket = trust.context().wrap_socket(server.socket, server_side=True)
    with _serving(server):
        heard.port = int(server.server_address[1])
        yield heard


def channel(
    kind: str, port: int, *, ca: Path | None, name: str = "soc", server_name: str = NAME, least: str = "info"
) -> Channel:
    here = ip_address("127.0.0.1")
    scheme = "https" if ca else "http"
    url = f"{scheme}://127.0.0.1:{port}/alerts" if kind == "webhook" else ""
    people = {"sender": "box@hospital.example", "to": ("it@hospital.example",)} if kind == "mail" else {}
    return Channel(name, kind, here, port, least, ca, server_name, url=url, **people)  # type: ignore[arg-type]  # two texts
