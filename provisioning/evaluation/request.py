"""One real clinical request through the LAN API, as a client on the network would send it.

Decides: the record that is sent (made up; nobody's). Leaves to others: everything that happens to it.
"""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from typing import Any

from provisioning import site_config

TIMEOUT_S = 120
TASK = "prior_auth_letter"
PURPOSE = "TREAT"
# The telephone number is not a field of this task: the answer's receipt names it as dropped.
RECORD: dict[str, Any] = {
    "age": 58,
    "sex": "female",
    "diagnoses": ["type 2 diabetes mellitus", "essential hypertension"],
    "codes": ["E11.9", "I10"],
    "requested_service": "continuous glucose monitoring",
    "medications": ["metformin 1000 mg twice daily", "lisinopril 20 mg once daily"],
    "justification": "glucose remains above target despite two medications",
    "telephone": "555-0100",
}


class RequestError(Exception):
    """The LAN API did not answer as it promises. The message is its own."""


@dataclass(frozen=True)
class Answer:
    """What came back: the text and the receipt that belongs to it."""

    text: str
    receipt: dict[str, Any]
    seconds: float

    def faults(self, *, digest: str, change_id: int) -> list[str]:
        """What is wrong with it: not from the approved release, or a field that should not have reached the model."""
        found = []
        if self.receipt.get("release_digest") != digest:
            found.append("the receipt names another release than the approved one")
        if self.receipt.get("change_id") != change_id:
            found.append("the receipt names another change than the approved one")
        if self.receipt.get("dropped_fields") != ["telephone"] or str(RECORD["telephone"]) in self.text:
            found.append("the telephone number was not dropped")
        return found

    @property
    def facts_missing(self) -> list[str]:
        """Codes and medications of the record that the text does not carry: the model's doing, told and not hidden."""
        return [fact for fact in (*RECORD["codes"], *RECORD["medications"]) if fact not in self.text]


def chat_body(model: str, record: dict[str, Any] | None = None, task: str = TASK) -> dict[str, Any]:
    """The body of POST /v1/chat/completions for one record."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": json.dumps(record or RECORD)}],
        "max_tokens": 320,
        "temperature": 0,
        "user": "dr-lee",
        "metadata": {"task": task, "purpose": PURPOSE, "patient_id": "EVAL-PATIENT-1"},
    }


def call(
    listener: site_config.Listener, method: str, path: str, *, key: str = "", body: dict[str, Any] | None = None
) -> tuple[int, dict[str, Any]]:
    """One exchange with a door of the box; the status and the JSON."""
    connection = http.client.HTTPConnection(listener.host, listener.port, timeout=TIMEOUT_S)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = connection.getresponse()
        data = response.read()
    finally:
        connection.close()
    try:
        return response.status, json.loads(data)
    except ValueError:
        raise RequestError(f"{method} {path}: {response.status}, and the answer is not JSON") from None


def model_name(listener: site_config.Listener, key: str) -> str:
    status, models = call(listener, "GET", "/v1/models", key=key)
    if status != 200 or not models.get("data"):
        raise RequestError(f"GET /v1/models: {status} {json.dumps(models)[:300]}")
    return str(models["data"][0]["id"])


def ask(listener: site_config.Listener, key: str) -> Answer:
    """Send the task, return the answer with its receipt."""
    began = time.monotonic()
    model = model_name(listener, key)
    status, answer = call(listener, "POST", "/v1/chat/completions", key=key, body=chat_body(model))
    if status != 200:
        raise RequestError(f"POST /v1/chat/completions: {status} {json.dumps(answer)[:300]}")
    text, receipt = answer["choices"][0]["message"]["content"], answer.get("receipt")
    if not text.strip() or not isinstance(receipt, dict):
        raise RequestError("the answer came without text or without a receipt")
    return Answer(text, receipt, round(time.monotonic() - began, 3))
