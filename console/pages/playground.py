"""Playground: try the model that serves with made-up text. The same way in as for every app, and the same records.

Nothing of what is typed or answered is kept. The answer is printed as text and never as a page: whatever a model writes,
no element comes of it (SECURITY.md T37, T38).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from django import forms
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_POST

from appliance.accounts.permissions import Permission
from console import access, asking, current
from console.samples import sample
from inference.clients.selectors import ClientView
from inference.policy.catalog import TASKS, Form, Purpose
from inference.releases.selectors import Serving

_ASKED_WITH_TEXT = (Form.RECORD, Form.CONVERSATION)
_WORDS = {
    asking.Text: "text",
    asking.Whole: "whole",
    asking.Refused: "refused",
}


class QuestionForm(forms.Form):
    """What to try. The choices are what is routed now and granted to the playground."""

    task = forms.ChoiceField(label="Task")
    purpose = forms.ChoiceField(label="Purpose")
    content = forms.CharField(
        label="Made-up record",
        max_length=20_000,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 16, "spellcheck": "false", "class": "mono"}),
    )

    def __init__(self, data: Any = None, *, tasks: list[str], purposes: list[str], **given: Any) -> None:
        super().__init__(data, **given)
        self.fields["task"].choices = [(name, TASKS[name].title) for name in tasks]  # type: ignore[attr-defined]  # a ChoiceField
        self.fields["purpose"].choices = [(name, f"{name}: {Purpose(name).label}") for name in purposes]  # type: ignore[attr-defined]  # the same


@access.requires(Permission.PLAYGROUND_USE)
@require_GET
def page(request: HttpRequest) -> HttpResponse:
    """The form, with the sample of the task that was chosen."""
    return render(request, "console/playground/page.html", _context(request))


@sensitive_post_parameters("content")
@access.requires(Permission.PLAYGROUND_USE)
@require_POST
@access.takes(QuestionForm)
def ask(request: HttpRequest) -> HttpResponse:
    """Ask. A script reads the answer as it comes; without one the page comes back with the whole of it."""
    client, serving = asking.grants(), current.of(request).serving
    form = _form(client, serving, request.POST)
    streams = request.headers.get("Accept") == "text/event-stream"
    if not form.is_valid():
        if streams:
            wrong = " ".join(f"{form.fields[name].label}: {errors[0]}" for name, errors in form.errors.items())
            steps: Iterator[asking.Text | asking.Whole | asking.Refused] = iter([asking.Refused("form_refused", wrong)])
            return _streamed(steps)
        return render(request, "console/playground/page.html", {**_context(request), "form": form}, status=400)
    question = asking.Question(**form.cleaned_data)
    if streams:
        return _streamed(asking.ask(request, question))
    found = list(asking.ask(request, question))
    ending = found[-1]
    context = {
        **_context(request),
        "form": form,
        "answer": "".join(step.text for step in found if isinstance(step, asking.Text)),
        "whole": ending if isinstance(ending, asking.Whole) else None,
        "refused": ending if isinstance(ending, asking.Refused) else None,
    }
    return render(request, "console/playground/page.html", context)


def _streamed(steps: Iterator[asking.Text | asking.Whole | asking.Refused]) -> HttpResponse:
    # Django sends it as any other; only its class is another.
    return StreamingHttpResponse(_events(steps), content_type="text/event-stream")  # type: ignore[return-value]  # as above


def _events(steps: Iterator[asking.Text | asking.Whole | asking.Refused]) -> Iterator[bytes]:
    for step in steps:
        yield f"data: {json.dumps({'kind': _WORDS[type(step)], **asdict(step)})}\n\n".encode()


def _context(request: HttpRequest) -> dict[str, Any]:
    client, serving = asking.grants(), current.of(request).serving
    form = _form(client, serving, None, chosen=request.GET.get("task", ""))
    return {
        "form": form,
        "serving": serving,
        "client": client,
        "ready": bool(serving and client and client.active and form.fields["task"].choices),  # type: ignore[attr-defined]  # a ChoiceField
        "may_register": access.may(request, Permission.CLIENT_MANAGE),
        "name": asking.CLIENT,
    }


def _form(client: ClientView | None, serving: Serving | None, data: Any, *, chosen: str = "") -> QuestionForm:
    """What may be chosen: granted to the playground, asked with text, and routed to the model that serves."""
    granted = client.tasks if client else ()
    routes = serving.routes if serving else {}
    tasks = [name for name in TASKS if name in granted and name in routes and TASKS[name].form in _ASKED_WITH_TEXT]
    task = chosen if chosen in tasks else next(iter(tasks), "")
    purposes = [name for name in (client.purposes if client else ()) if name in {item.value for item in Purpose}]
    return QuestionForm(data, tasks=tasks, purposes=purposes, initial={"task": task, "content": sample(task)})
