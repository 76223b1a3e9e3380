"""Tasks and routes: which work goes to which model with which fields, and by which approved change.

Read from where it is enforced: the catalogue the doors decide by, and the facts that were signed for what serves now.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from appliance.accounts.permissions import Permission
from console import access, current
from inference.clients import selectors as clients
from inference.policy.catalog import DISCLOSURE, TASKS, Capability, Check, Form, Task
from inference.releases.selectors import Serving

FORMS: Mapping[Form, str] = {
    Form.RECORD: "a record",
    Form.CONVERSATION: "a conversation",
    Form.TEXTS: "texts",
    Form.AUDIO: "a recording",
}
NEEDS: Mapping[Form, Capability] = {
    Form.RECORD: Capability.CHAT,
    Form.CONVERSATION: Capability.CHAT,
    Form.TEXTS: Capability.EMBEDDINGS,
    Form.AUDIO: Capability.TRANSCRIPTIONS,
}
GIVES: Mapping[Form, str] = {
    Form.RECORD: "free text",
    Form.CONVERSATION: "free text",
    Form.TEXTS: "numbers that stand for the texts",
    Form.AUDIO: "what was said, as text",
}
CHECKS: Mapping[Check, str] = {
    Check.CODES: "every medical code in the answer must stand in the record",
    Check.SCHEMA: "the answer must have the task's form",
}


@dataclass(frozen=True)
class Route:
    """One task, and where its work goes now."""

    task: Task
    asked_with: str
    level: str
    word: str
    says: str

    @property
    def gives(self) -> str:
        """What comes back."""
        return "of a fixed form" if self.task.schema else GIVES[self.task.form]


def routed(serving: Serving | None) -> int:
    """How many tasks go to the model that serves."""
    return sum(1 for task in TASKS.values() if _route(task, serving).level == "well")


@access.requires(Permission.TASK_VIEW)
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """Every registered task, in the catalogue's order."""
    serving = current.of(request).serving
    routes = [_route(task, serving) for task in TASKS.values()]
    context = {
        "routes": routes,
        "routed": routed(serving),
        "serving": serving,
        "may_see_changes": access.may(request, Permission.CHANGE_VIEW),
    }
    return render(request, "console/tasks/list.html", context)


@access.requires(Permission.TASK_VIEW)
@require_GET
def detail(request: HttpRequest, task: str) -> HttpResponse:
    """One task: what may reach the model, what is asked of it, and what an answer is held against."""
    found = TASKS.get(task)
    if found is None:
        raise Http404
    serving = current.of(request).serving
    may_see_clients = access.may(request, Permission.CLIENT_VIEW)
    context = {
        "task": found,
        "route": _route(found, serving),
        "serving": serving,
        "rest": _rest(found),
        "checks": [CHECKS[check] for check in sorted(found.checks)],
        "disclosure": DISCLOSURE if found.patient_facing else {},
        "record_schema": _written(found.record_schema),
        "schema": _written(found.schema),
        "clients": [client for client in clients.clients() if task in client.tasks] if may_see_clients else [],
        "may_see_clients": may_see_clients,
        "may_see_changes": access.may(request, Permission.CHANGE_VIEW),
    }
    return render(request, "console/tasks/detail.html", context)


def _route(task: Task, serving: Serving | None) -> Route:
    asked_with = FORMS[task.form]
    if serving is None:
        return Route(task, asked_with, "unknown", "No model", "Nothing is serving.")
    if serving.routes.get(task.id) != serving.served_model_name:
        return Route(task, asked_with, "unknown", "Not routed", "No approved change routes it to a model.")
    if NEEDS[task.form] not in serving.capabilities:
        says = f"{serving.name} {serving.version} was not approved for {NEEDS[task.form].value}: it is refused."
        return Route(task, asked_with, "unknown", "Refused", says)
    return Route(task, asked_with, "well", "Routed", f"To {serving.name} {serving.version}.")


def _rest(task: Task) -> str:
    """What becomes of what is not listed."""
    if task.form is not Form.RECORD:
        return "Nothing is taken out: it is asked with text of the app's own, so what stands in it is the app's matter."
    if task.record_schema is not None:
        return "A record that holds anything else is refused."
    return "Any other field of a record is dropped before the model sees it; the receipt names what was dropped."


def _written(schema: Mapping[str, object] | None) -> str:
    return json.dumps(schema, indent=2, default=dict) if schema else ""
