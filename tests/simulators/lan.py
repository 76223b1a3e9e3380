"""A hospital's LAN in a test: the real API process over the test's own database, a client with a key, a release that
serves. The engine behind it is the stand-in; real vLLM is in tests/flows.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from psycopg.rows import dict_row
from psycopg.sql import SQL

from appliance.changes.models import Approval, Change
from inference.clients import selectors
from inference.clients import services as clients
from inference.clients.models import Client
from inference.policy.catalog import PURPOSES, TASKS, Capability
from inference.releases.models import Deployment, Release
from provisioning import site_config
from provisioning.evaluation import stack
from tests.simulators.engine import EngineStandIn
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
MODEL = "m-0123456789ab"
DIGEST = "0123456789ab" + "0" * 52
ADDED_TOKENS = [
    {"content": "<|im_end|>", "special": True},
    {"content": "[[WARD]]", "special": True},
    {"content": "<\uff5cturn\u2581end\uff5c>", "special": True},
    {"content": "<tool_call>", "special": False},
    {"content": "    ", "special": False},
]
RECORD = {
    "age": 71,
    "sex": "female",
    "visit_reason": "cough",
    "diagnoses": ["bronchitis"],
    "codes": ["J20.9"],
    "medications": ["amoxicillin"],
    "plan": "rest",
}


def gunicorn(application: str, bind: str, *options: str) -> list[str]:
    command = [sys.executable, "-m", "gunicorn", application, "--bind", bind, "--no-control-socket"]
    return [*command, "--log-level", "warning", *options]


def app_environment() -> dict[str, str]:
    """As the product runs it: under the application's role, not the owner's."""
    return {
        **os.environ,
        "ISOWARD_DB_ROLE": settings.SITE.postgres.app_role,
        "DJANGO_SETTINGS_MODULE": "appliance.settings",
    }


@dataclass
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


@dataclass
class Lan:
    """The API, and who talks to it."""

    port: int
    log: Path
    engine: EngineStandIn
    client: str = ""
    key: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 20,
    ) -> Reply:
        """One exchange on a connection of its own."""
        sent = {"Authorization": f"Bearer {self.key if key is None else key}"}
        if body is not None:
            sent["Content-Type"] = "application/json"
            body = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent |= headers or {}
        wire = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            wire.request(method, path, body=body, headers={name: value for name, value in sent.items() if value})
            answer = wire.getresponse()
            found = {name.lower(): value for name, value in answer.getheaders()}
            return Reply(answer.status, found, answer.read())
        finally:
            wire.close()

    def leave_while_it_works(self, path: str, body: bytes, content_type: str = "application/json") -> None:
        """Ask, and hang up as soon as the engine has the request."""
        before = len(self.engine.seen)
        with socket.create_connection(("127.0.0.1", self.port)) as wire:
            head = (
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {self.key}\r\n"
                f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            wire.sendall(head.encode() + body)
            until(lambda: len(self.engine.seen) > before, 5, "the engine has the request")

    def chat(self, **changes: Any) -> Reply:
        return self.ask("POST", "/v1/chat/completions", chat_body(**changes))


def chat_body(record: Any = None, **changes: Any) -> dict[str, Any]:
    """A good request, with some fields of it changed; a field set to None is left out."""
    content = json.dumps(RECORD if record is None else record)
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": content}],
        "metadata": {"task": "progress_note", "purpose": "TREAT"},
        **changes,
    }
    return {name: value for name, value in body.items() if value is not None}


@contextmanager
def api_process(log: Path, *, site: Path | None = None) -> Iterator[int]:
    """The real program: gunicorn's ASGI worker as production starts it, on a free port. `site`: another site file.

    The log is its own: beside it stands its socket, which a second process would take over, and take away as it ends.
    """
    with log.open("xb") as out:
        port = _free_port()
        process = subprocess.Popen(
            gunicorn(
                "appliance.asgi:application",
                f"127.0.0.1:{port}",
                # as behind nginx; next to its log
                "--bind",
                f"unix:{log.with_suffix('.sock')}",
                *stack.API_OPTIONS,
            ),
            cwd=ROOT,
            env=app_environment() | ({} if site is None else {site_config.ENVIRONMENT_KEY: str(site)}),
            stdout=out,
            stderr=out,
        )
        try:
            until(lambda: _answers(port), 30, f"the API answers on {port}; see {log}")
            yield port
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _answers(port: int) -> bool:
    wire = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        wire.request("GET", "/v1/status")
        return wire.getresponse().status in {200, 503}
    except OSError:
        return False
    finally:
        wire.close()


def new_key(name: str = "ward-7", **grants: Any) -> str:
    """A client with every task and purpose, or with what is named, and a key for it."""
    given = {"tasks": list(TASKS), "purposes": list(PURPOSES), "lane": "interactive", "phi": True, **grants}
    clients.create_client(actor="erin", name=name, title=name, owner="ward", **given)
    return clients.issue_key(actor="erin", client=name).plaintext


def new_key_with(name: str, *, features: list[str], tools: list[str] | None = None) -> str:
    """A key whose client may ask more of the engine than text. One commit, or the doors know the key before its features."""
    with transaction.atomic():
        key = new_key(name)
        Client.objects.filter(name=name).update(features=features, tools=tools or [])
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_notify('{selectors.CHANGED}', '')")
    return key


def serve_a_release(slot: str = "a") -> Deployment:
    """The rows of a release that serves, and its tokenizer. How they come to be is tests/flows/test_media_to_answer.py."""
    tokenizer = settings.SITE.releases_dir / DIGEST / "tokenizer.json"
    tokenizer.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.write_text(json.dumps({"added_tokens": ADDED_TOKENS}))
    release = Release.objects.create(
        digest=DIGEST, name="eval", version=1, title="Evaluation", family="qwen3", manifest={}, files={}, verdict={},
        received_by="alice",
    )  # fmt: skip
    change = Change.objects.create(
        kind="release.activate", subject=DIGEST, quorum=2, proposer="alice", digest="d" * 64, reason="test",
        facts={
            "served_model_name": MODEL, "routes": dict.fromkeys(TASKS, MODEL), "capabilities": list(Capability),
        }, state=Change.State.EXECUTED,
    )  # fmt: skip
    for name in ("bob", "carol"):
        Approval.objects.create(
            change=change, proposer="alice", approver=name, digest="d" * 64, key_id=name, signature=b"x"
        )
    deployment = Deployment.objects.create(
        release=release, change=change, slot=slot, state=Deployment.State.SERVING, served_at=timezone.now()
    )
    tell_the_doors()
    return deployment


def tell_the_doors() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify('isoward_serving', '')")


def audit_rows(where: str = "true") -> list[dict[str, Any]]:
    """What the log holds, as the auditor would read it."""
    conninfo = settings.SITE.postgres.conninfo(settings.SITE.postgres.owner_role)
    # The condition is written in a test, never given from outside.
    query = SQL("SELECT * FROM audit_record WHERE {} ORDER BY at_us, shard, seq").format(SQL(where))
    with psycopg.connect(conninfo, row_factory=dict_row) as conn:
        return conn.execute(query).fetchall()
