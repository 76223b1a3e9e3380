"""The door itself: keys, paths, methods, hosts, bodies (BAD_INPUTS.md groups F and G), each with its exact code."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

import pytest

from inference.clients import services as clients
from tests.simulators import lan as lans
from tests.simulators.lan import Lan
from tests.waiting import until

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    "change",
    [
        lambda key: "",
        lambda key: f"Bearer {key[:-1]}",
        lambda key: f"Bearer {key}x",
        lambda key: f"Bearer {key.swapcase()}",
        lambda key: f"bearer {key}",
        lambda key: f"Bearer  {key}",
        lambda key: f"Bearer Bearer {key}",
        lambda key: f"Bearer {key} {key}",
        lambda key: f"Basic {key}",
        lambda key: key,
        lambda key: "Bearer ' OR (SELECT pg_sleep(8))--",
        lambda key: "Bearer " + "a" * 4000,
    ],
)
def test_a_key_spelled_in_any_other_way_is_refused(lan: Lan, change: Any) -> None:
    reply = lan.ask("GET", "/v1/models", headers={"Authorization": change(lan.key)})
    assert (reply.status, reply.code) == (401, "invalid_api_key")
    assert reply.headers["www-authenticate"] == "Bearer"


def test_a_key_in_the_query_in_a_cookie_or_twice_is_no_key(lan: Lan) -> None:
    assert lan.ask("GET", f"/v1/models?api_key={lan.key}", key="x").status == 401
    assert lan.ask("GET", "/v1/models", key="x", headers={"Cookie": f"key={lan.key}"}).status == 401
    header = f"Authorization: Bearer {lan.key}\r\n"
    assert raw(lan, f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{header}{header}\r\n").startswith(b"HTTP/1.1 4")
    assert raw(lan, f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{header}\r\n").startswith(b"HTTP/1.1 200")


def test_a_revoked_key_is_refused_within_seconds_and_its_running_stream_is_cut(lan: Lan) -> None:
    lan.engine.tokens, lan.engine.pause_s = ("x ",) * 400, 0.05
    body = json.dumps(lans.chat_body(stream=True))
    with socket.create_connection(("127.0.0.1", lan.port), timeout=10) as wire:
        wire.sendall(
            f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {lan.key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        assert b"200 OK" in wire.recv(2000)
        clients.revoke_key(actor="erin", prefix=lan.key[:12])
        until(lambda: lan.ask("GET", "/v1/models").status == 401, 5, "the key is refused")
        until(lambda: lan.engine.seen[0].cut, 5, "the stream was cut")
        text = until(lambda: b"rights_withdrawn" in (t := wire.recv(100_000)) and t, 5, "the caller was told why")
        assert b"[DONE]" not in text


def test_a_suspended_client_is_refused_and_let_in_again(lan: Lan) -> None:
    clients.set_state(actor="erin", client=lan.client, active=False)
    until(lambda: lan.ask("GET", "/v1/models").status == 401, 5, "the client is refused")
    clients.set_state(actor="erin", client=lan.client, active=True)
    until(lambda: lan.ask("GET", "/v1/models").status == 200, 5, "the client is let in")


def test_a_flood_of_bad_keys_is_counted_exactly_and_does_not_flood_the_log(lan: Lan) -> None:
    for _ in range(300):
        assert lan.ask("GET", "/v1/models", key="iwk_guess").status == 401

    def counted() -> int:
        rows = lans.audit_rows("kind = 'refusal' AND outcome = 'invalid_api_key'")
        return sum(json.loads(row["detail"])["count"] for row in rows)

    until(lambda: counted() >= 300, 5, "every refusal was counted")
    assert len(lans.audit_rows("kind = 'refusal' AND client = ''")) < 60


@pytest.mark.parametrize(
    "path",
    [
        "/", "/v1", "/v1/", "/v1/models/", "//v1/models", "/v1//models", "/V1/models", "/v1/%6dodels", "/v1/models%00",
        "/v1/%2e%2e/v1/models", "/v1/../v1/models", "/v1/models;x", "/v1\\models", "/metrics", "/health", "/docs",
        "/v1/rerank", "/v1/audio/speech", "/tokenize", "/admin", "/v1/jobs/1", "/v1/jobs/job_" + "g" * 24,
        "/v1/models/" + "a" * 200, "/v1/%ff%fe",
    ],
)  # fmt: skip
def test_any_other_path_is_not_found(lan: Lan, path: str) -> None:
    reply = lan.ask("GET", path)
    assert (reply.status, reply.code) == (404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", CHAT, "POST"),
        ("DELETE", "/v1/models", "GET"),
        ("PUT", "/v1/jobs", "GET, POST"),
        ("OPTIONS", CHAT, "POST"),
    ],
)
def test_another_method_is_not_allowed_and_says_which_is(lan: Lan, method: str, path: str, allowed: str) -> None:
    reply = lan.ask(method, path)
    assert (reply.status, reply.code) == (405, "method_not_allowed")
    assert reply.headers["allow"] == allowed
    assert not [name for name in reply.headers if name.startswith("access-control")]


def test_the_status_needs_no_key_and_tells_nothing_of_any_request(lan: Lan) -> None:
    reply = lan.ask("GET", "/v1/status", key="")
    lanes = reply.json["lanes"]
    assert lanes.keys() == {"stat", "interactive", "batch", "slots", "pressure"}
    assert lanes["interactive"].keys() == {"running", "waiting", "oldest_s", "per_second"}
    assert {name: value for name, value in reply.json.items() if name != "lanes"} == {
        "status": "ok",
        "reasons": [],
        "capacity": "full",
        "model": {"id": lans.MODEL, "release_digest": lans.DIGEST},
    }


def raw(lan: Lan, text: str, more: bytes = b"") -> bytes:
    """Bytes on the wire as they are, and everything that comes back within a second of silence."""
    with socket.create_connection(("127.0.0.1", lan.port), timeout=10) as wire:
        found = b""
        with contextlib.suppress(OSError):  # it hung up on us while we were still sending
            wire.sendall(text.encode("latin-1") + more)
        wire.settimeout(1)
        try:
            while part := wire.recv(65_536):
                found += part
        except OSError:
            pass
        return found


def test_an_upload_that_is_no_form_is_not_taken(lan: Lan) -> None:
    assert lan.ask("POST", "/v1/files", {"purpose": "batch"}).code == "unsupported_media_type"
