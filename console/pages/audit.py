"""Audit: who did what, when, why; each reading of the log is itself a record.

One view of this page is one record, with the query and the number of rows shown, so that reading the record of a
reading adds one more and no loop.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_POST

from appliance.accounts.permissions import Permission
from appliance.audit import selectors as log
from appliance.audit import services as audit
from appliance.audit.actions import Action
from appliance.audit.entry import KINDS
from appliance.audit.errors import AuditError
from console import access

PER_PAGE = 50
_EPOCH_LIMIT = 2**62
KIND_SAYS = {
    "act": "an act of a person or a process",
    "intent": "before a request reached the engine",
    "outcome": "after it ended",
    "read": "a reading of the log",
    "refusal": "something refused",
}


class SearchForm(forms.Form):
    """What to look for; empty does not narrow."""

    actor = forms.CharField(label="Who", required=False, max_length=150)
    action = forms.ChoiceField(
        label="Action", required=False, choices=[("", "any"), *((a.value, a.value) for a in Action)]
    )
    client = forms.CharField(label="Client", required=False, max_length=64)
    request_id = forms.CharField(label="Request id", required=False, max_length=64)
    kind = forms.ChoiceField(label="Kind", required=False, choices=[("", "any"), *((k, k) for k in sorted(KINDS))])
    since = forms.DateField(label="From day", required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label="To day", required=False, widget=forms.DateInput(attrs={"type": "date"}))


@dataclass(frozen=True)
class Pair:
    """One field of a record."""

    label: str
    value: str


@access.requires(Permission.AUDIT_VIEW)
@require_GET
def index(request: HttpRequest) -> HttpResponse:
    """The newest records that match, 50 to a page."""
    form = SearchForm(request.GET)
    # A filter we cannot read shows nothing, never everything.
    valid = form.is_valid()
    asked = form.cleaned_data if valid else {}
    rising = request.GET.get("order") == "when"
    query = _query(asked, before=_before(request.GET.get("before", "")), rising=rising)
    rows = log.search(query, limit=PER_PAGE + 1) if valid else ()
    shown = rows[:PER_PAGE]
    _record_reading(request, {**query.facts(), "shown": len(shown)})
    context = {
        "form": form,
        "rows": shown,
        "next_page": _next_page(asked, shown, rising=rising) if len(rows) > PER_PAGE else "",
        "rising": rising,
        "other_order": _address(asked, {} if rising else {"order": "when"}),
        "first_page": _address(asked, {"order": "when"} if rising else {}),
        "wrong": [Pair(str(form[name].label), str(error)) for name, found in form.errors.items() for error in found],
        "paged": query.before is not None,
        "filtered": bool(query.facts() or query.since or query.until),
        "head": log.head(),
        "may_verify": access.may(request, Permission.AUDIT_VERIFY),
        "report": _last_report(request),
    }
    return render(request, "console/audit/list.html", context)


@access.requires(Permission.AUDIT_VIEW)
@require_GET
def detail(request: HttpRequest, shard: int, seq: int) -> HttpResponse:
    """One record, whole, with what else was recorded about the same request."""
    if max(shard, seq) > _EPOCH_LIMIT:
        raise Http404
    row = log.entry(shard=shard, seq=seq)
    if row is None:
        raise Http404
    _record_reading(request, {"record": f"{shard}/{seq}"})
    context = {
        "row": row,
        "kind_says": KIND_SAYS.get(row.kind, ""),
        "details": _details(row.detail),
        "about": [Pair(label, value) for label, value in _about(row) if value],
        "marks": [Pair(label, value) for label, value in _marks(row) if value],
        "same_request": [other for other in log.of_request(row.request_id) if other != row] if row.request_id else [],
    }
    return render(request, "console/audit/detail.html", context)


@access.requires(Permission.AUDIT_VERIFY)
@require_POST
@access.takes()
def verify(request: HttpRequest) -> HttpResponse:
    """Read every record again and hold it against every signed head."""
    began = timezone.now()
    try:
        report = log.verify().to_dict()
    except AuditError as error:
        report = {
            "ok": False,
            "code": "audit_not_verifiable",
            "message": str(error),
            "sealed": 0,
            "unsealed": 0,
            "checkpoints": 0,
        }
    with transaction.atomic():
        audit.record(
            actor=access.actor(request),
            action=Action.AUDIT_VERIFIED,
            outcome="ok" if report["ok"] else str(report["code"]),
            request_id=access.request_id(request),
            detail={"sealed": report["sealed"], "unsealed": report["unsealed"]},  # type: ignore[dict-item]  # both are counts
        )
    seconds = (timezone.now() - began).total_seconds()
    request.session["audit_report"] = {**report, "at": timezone.now().isoformat(), "seconds": seconds}
    return redirect("audit")


def _query(asked: Mapping[str, Any], *, before: tuple[int, int, int] | None, rising: bool) -> log.Query:
    zone = timezone.get_current_timezone()
    since, until = asked.get("since"), asked.get("until")
    return log.Query(
        actor=asked.get("actor", ""),
        action=asked.get("action", ""),
        request_id=asked.get("request_id", ""),
        client=asked.get("client", ""),
        kind=asked.get("kind", ""),
        since=datetime(since.year, since.month, since.day, tzinfo=zone) if since else None,
        # The last day is meant whole.
        until=_day_after(until, zone) if until else None,
        before=before,
        rising=rising,
    )


def _day_after(day: date, zone: tzinfo) -> datetime:
    following = day + timedelta(days=1)
    return datetime(following.year, following.month, following.day, tzinfo=zone)


def _before(text: str) -> tuple[int, int, int] | None:
    """The key of the last row of the page before, or None for anything that is not one."""
    parts = text.split("-")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        return None
    at, shard, seq = (int(part) for part in parts)
    return at, shard, seq


def _next_page(asked: Mapping[str, Any], shown: tuple[log.Row, ...], *, rising: bool) -> str:
    last = shown[-1]
    # In whole microseconds: a float's last digit would lose or repeat a row.
    at_us = (last.at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    order = {"order": "when"} if rising else {}
    return _address(asked, {**order, "before": f"{at_us}-{last.shard}-{last.seq}"})


def _address(asked: Mapping[str, Any], more: Mapping[str, str]) -> str:
    """The log's page with the same search and something more."""
    keep = {key: str(value) for key, value in asked.items() if value}
    return f"{reverse('audit')}?{urlencode({**keep, **more})}"


def _record_reading(request: HttpRequest, detail: Mapping[str, Any]) -> None:
    """No record, no reading: a failure here is a failure of the page."""
    with transaction.atomic():
        audit.record(
            actor=access.actor(request),
            action=Action.AUDIT_READ,
            kind="read",
            request_id=access.request_id(request),
            detail=detail,
        )


def _last_report(request: HttpRequest) -> dict[str, Any] | None:
    report = request.session.get("audit_report")
    return {**report, "at": datetime.fromisoformat(report["at"])} if report else None


def _details(text: str) -> list[Pair]:
    try:
        value = json.loads(text)
    except ValueError:
        return [Pair("detail", text)]
    if not isinstance(value, dict):
        return [Pair("detail", text)]
    return [Pair(key, item if isinstance(item, str) else json.dumps(item)) for key, item in sorted(value.items())]


def _about(row: log.Row) -> tuple[tuple[str, str], ...]:
    return (
        ("Target", row.target),
        ("Client", row.client),
        ("End user", row.end_user),
        ("Purpose", row.purpose),
        ("Task", row.task),
        ("Data class", row.data_class),
        ("Model", row.model),
        ("Tokens", f"{row.input_tokens} in, {row.output_tokens} out" if row.input_tokens or row.output_tokens else ""),
    )


def _marks(row: log.Row) -> tuple[tuple[str, str], ...]:
    return (
        ("Prompt", row.prompt_hmac),
        ("Answer", row.answer_hmac),
        ("Patient tag", row.patient_tag),
        ("Under key", row.hmac_key),
    )
