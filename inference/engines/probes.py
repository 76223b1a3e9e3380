"""What the supervisor asks an engine over the slot's socket: is it there, does it still run something, is it right.

Two fixed GETs, written here; generation goes through `vllm`. What comes back is bounded before it is read and believed
only as a yes or a number: no text of the engine's goes anywhere.
"""

from __future__ import annotations

import http.client
import re
import socket
from collections.abc import Sequence
from pathlib import Path

from inference.engines import gate
from inference.engines.vllm import Vllm
from provisioning.site_config import Site

HEALTH_TIMEOUT_S = 5.0
LARGEST_METRICS = 1_048_576
_BUSY = re.compile(rb"^vllm:num_requests_(?:running|waiting)\{[^}\n]*\} ([0-9.e+]+)$", re.MULTILINE)


class SlotProbes:
    """Asks the engines of this box."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._key = site.secret("engine-api-key").decode("ascii")

    def healthy(self, slot: str) -> bool:
        """Whether GET /health answers 200 in time."""
        answer = self._get(slot, "/health", most=1024)
        return answer is not None

    def running(self, slot: str) -> int | None:
        """How many requests run or wait in the engine; None when it does not say."""
        text = self._get(slot, "/metrics", most=LARGEST_METRICS)
        found = _BUSY.findall(text) if text is not None else []
        try:
            return int(sum(float(value) for value in found)) if found else None
        except (ValueError, OverflowError):
            return None

    def prove(self, slot: str, *, model: str, golden: Sequence[gate.Case]) -> gate.Proof:
        """Ask the release's golden prompts."""
        engine = Vllm(socket_of=self._site.engine_socket, api_key=self._key)
        return gate.prove(engine, slot=slot, model=model, golden=golden)

    def _get(self, slot: str, path: str, *, most: int) -> bytes | None:
        connection = _UnixConnection(self._site.engine_socket(slot))
        try:
            connection.request(
                "GET", path, headers={"Host": "engine", "Authorization": f"Bearer {self._key}", "Connection": "close"}
            )
            response = connection.getresponse()
            body = response.read(most)
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()
        return body if response.status == 200 else None


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("engine", timeout=HEALTH_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(HEALTH_TIMEOUT_S)
        self.sock.connect(str(self._path))
