"""A batch as an app hands it in: a file over HTTP, then the batch over it; and what became of it, from its row."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterable, Mapping
from typing import Any

import psycopg

from tests.bench.site import Appliance
from tests.waiting import until

_BOUNDARY = "0123456789abcdef0123456789abcdef"


def lines(bodies: Iterable[Mapping[str, Any]]) -> bytes:
    """OpenAI's input file: one request a line."""
    rows = (
        {"custom_id": f"case-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body}
        for number, body in enumerate(bodies)
    )
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def hand_in(appliance: Appliance, content: bytes) -> tuple[str, float]:
    """The batch's id, and the seconds until it was accepted: every job durable, whatever happens next."""
    wire = http.client.HTTPConnection("127.0.0.1", appliance.layout.api_port, timeout=120)
    key = {"Authorization": f"Bearer {appliance.key}"}
    form = (
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    ).encode()
    body = b"".join((form, content, f"\r\n--{_BOUNDARY}--\r\n".encode()))
    began = time.perf_counter()
    headers = {**key, "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    file = _asked(wire, "/v1/files", body, headers)["id"]
    batch = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    headers = {**key, "Content-Type": "application/json"}
    ref = str(_asked(wire, "/v1/batches", json.dumps(batch).encode(), headers)["id"])
    taken = time.perf_counter() - began
    wire.close()
    return ref, taken


def cancel(appliance: Appliance, ref: str) -> None:
    wire = http.client.HTTPConnection("127.0.0.1", appliance.layout.api_port, timeout=120)
    _asked(wire, f"/v1/batches/{ref}/cancel", b"", {"Authorization": f"Bearer {appliance.key}"})
    wire.close()


def wait_for(appliance: Appliance, ref: str, state: str, seconds: float) -> float:
    """Seconds until the batch was in that state."""
    began = time.perf_counter()
    with psycopg.connect(appliance.owner, autocommit=True) as connection:

        def there() -> bool:
            row = connection.execute("SELECT state FROM queue_batch WHERE ref = %s", [ref]).fetchone()
            return row == (state,)

        until(there, seconds, f"the batch is {state}")
    return time.perf_counter() - began


def counts(appliance: Appliance, ref: str) -> dict[str, int]:
    """Its lines by state."""
    query = (
        "SELECT j.state, count(*) FROM queue_job j JOIN queue_batch b ON b.id = j.batch_id WHERE b.ref = %s GROUP BY 1"
    )
    with psycopg.connect(appliance.owner) as connection:
        return {str(state): int(count) for state, count in connection.execute(query, [ref]).fetchall()}


def _asked(wire: http.client.HTTPConnection, path: str, body: bytes, headers: Mapping[str, str]) -> Any:
    wire.request("POST", path, body=body, headers=dict(headers))
    answer = wire.getresponse()
    said = answer.read()
    if answer.status != 200:
        raise AssertionError(f"{path}: {answer.status} {said[:500]!r}")
    return json.loads(said)
