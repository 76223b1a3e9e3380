"""The document itself: operations, components and codes put together as OpenAPI 3.1."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from inference.admission.rules import Capacity
from inference.api.errors import TABLE
from inference.api.openapi.answers import ANSWERS
from inference.api.openapi.bodies import BODIES
from inference.api.openapi.durable import DURABLE
from inference.api.openapi.operations import ANY, EVENTS, JSON, KEYED, LINES, OPERATIONS, PARAMETERS, PLAIN, Operation
from inference.api.openapi.shapes import Shape, given, one_of, ref
from provisioning.version import VERSION

_ID: Shape = {"type": "string", "description": "Give it to the hospital's IT when something is wrong"}
_DOCUMENT: Shape = {"type": "object", "required": ["openapi", "paths"]}


def build() -> dict[str, Any]:
    """The whole document, as JSON."""
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for operation in OPERATIONS:
        paths[operation.path][operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Isoward LAN API",
            "version": VERSION,
            "description": "OpenAI's wire format on the hospital's network. Every request names its task and its purpose.",
        },
        "security": [{"key": []}],
        "paths": dict(paths),
        "components": {
            "schemas": {**BODIES, **ANSWERS, **DURABLE},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(operation: Operation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": _name(operation),
        "summary": operation.title,
        "parameters": list(_parameters(operation)),
        "responses": _responses(operation),
    }
    if operation.takes:
        found["requestBody"] = {"required": True, "content": {operation.media: {"schema": ref(operation.takes)}}}
    if not operation.key:
        found["security"] = []
    return found


def _name(operation: Operation) -> str:
    return re.sub(r"[^a-z]+", "_", f"{operation.method} {operation.path.removeprefix('/v1')}".lower()).strip("_")


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    in_path = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "pattern": f"^{PARAMETERS[name]}$"}}
        for name in re.findall(r"\{(\w+)\}", operation.path)
    ]
    in_query = [
        {"name": name, "in": "query", "required": name in operation.needed, "schema": shape}
        for name, shape in operation.query.items()
    ]
    in_headers = [{"name": name, "in": "header", "schema": shape} for name, shape in operation.headers.items()]
    return [*in_path, *in_query, *in_headers]


def _responses(operation: Operation) -> dict[str, Any]:
    """Its answer, and each status with exactly the codes that come with it."""
    by_status: dict[int, list[str]] = defaultdict(list)
    for code in sorted(operation.codes | ANY | (KEYED if operation.key else frozenset())):
        by_status[TABLE[code][0]].append(code)
    found = {str(status): _refusal(codes) for status, codes in sorted(by_status.items())}
    found[str(operation.status)] = _answer(operation)
    if operation.path == "/v1/status":  # a monitor's answer: the same shape when the box does not answer
        found["503"] = _answer(operation, "The box does not answer; the reasons say why")
    return found


def _answer(operation: Operation, why: str = "Done") -> dict[str, Any]:
    found: dict[str, Any] = {"description": why, "headers": _HEADERS}
    if operation.method != "HEAD":
        shape = ref(operation.answers) if operation.answers else _DOCUMENT
        whole = {} if operation.also == (LINES,) else {JSON: {"schema": shape}}
        found["content"] = whole | {media: {"schema": _TEXTS[media]} for media in operation.also}
    return found


_HEADERS = {
    "x-request-id": {"required": True, "schema": _ID},
    "x-isoward-capacity": {
        "required": False,
        "description": "Only while the box can do less than usual.",
        "schema": one_of((Capacity.REDUCED, Capacity.NONE)),
    },
}
_TEXTS: dict[str, Shape] = {
    EVENTS: {
        "description": "Each event, in OpenAI's form. Whole only when the last one before the end carries a receipt.",
        **given({"data": {"type": "string"}}, {"event": {"type": "string"}}),
    },
    PLAIN: {"type": "string", "description": "The words alone; the receipt is in the header x-isoward-receipt."},
    LINES: {"type": "string", "description": "One JSON object a line."},
}


def _refusal(codes: list[str]) -> dict[str, Any]:
    narrowed = {"properties": {"error": {"properties": {"code": one_of(codes)}}}}
    return {
        "description": ", ".join(codes),
        "headers": _HEADERS,
        "content": {JSON: {"schema": {"allOf": [ref("Error"), narrowed]}}},
    }
