"""The scrape address: answers `GET /metrics` on the one address that the site file names, and nothing else anywhere.

A process of its own, so that a scraper that hangs costs the console and the API nothing. One request at a time; a reader
that is too slow is let go.
"""

from __future__ import annotations

import logging
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.db import connection
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from inference.management.metrics import Appliance
from provisioning.site_channels import Scrape

log = logging.getLogger(__name__)

SLOWEST_S = 5.0


class Command(BaseCommand):
    """Answer scrapes until SIGTERM."""

    help = "Serve Prometheus metrics on the address in the site file's [metrics]; runs until stopped."

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.SITE.metrics is None:
            raise CommandError(
                'the site file has no [metrics]; write listen = "10.1.2.3:9400" there, or do not run this'
            )
        server = serve(settings.SITE.metrics)
        for number in (signal.SIGTERM, signal.SIGINT):
            # shutdown() waits for the loop that this thread runs: it is asked from another one.
            signal.signal(number, lambda *_: threading.Thread(target=server.shutdown).start())
        log.info("metrics_started", extra={"port": server.server_port})
        server.serve_forever(poll_interval=0.2)
        server.server_close()
        log.info("metrics_stopped")


def serve(where: Scrape) -> HTTPServer:
    """The listener, bound; `serve_forever` answers."""
    return _Server((str(where.host), where.port), _Handler, v6=where.host.version == 6)


class _Server(HTTPServer):
    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler], *, v6: bool) -> None:
        self.address_family = socket.AF_INET6 if v6 else socket.AF_INET
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(Appliance())
        super().__init__(address, handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SLOWEST_S
    server_version, sys_version = "isoward", ""

    def do_GET(self) -> None:
        if self.path != "/metrics":
            self._answer(404, b"", "text/plain")
            return
        try:
            connection.close_if_unusable_or_obsolete()
            body = generate_latest(self.server.registry)
        except DatabaseError:
            connection.close()
            self._answer(503, b"", "text/plain")
            return
        self._answer(200, body, CONTENT_TYPE_PLAIN_0_0_4)

    def log_message(self, *arguments: Any) -> None:
        """Nothing: what a stranger writes into a request line does not belong into the log."""

    def _answer(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(body)
