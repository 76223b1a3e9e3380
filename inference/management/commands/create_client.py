"""Register a clinical application from JSON on stdin, and print its first key: once, and nothing else.

{"name": ..., "title": ..., "owner": ..., "tasks": [...], "purposes": [...], "lane": ..., "phi": true}

and, where the client needs them, "features": [...], "tools": [...], "assertion_required": true.

A client that is already here with the same rights gets another key; with other rights it is refused.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from inference.clients import selectors
from inference.clients import services as clients
from inference.clients.errors import ClientError, ClientNotFoundError

_FIELDS = {"name": str, "title": str, "owner": str, "tasks": list, "purposes": list, "lane": str, "phi": bool}
_OPTIONAL: dict[str, Any] = {"features": [], "tools": [], "assertion_required": False}


class Command(BaseCommand):
    """`manage.py create_client --actor erin < ward-7.json`."""

    help = "Register a client from JSON on stdin and print its first key, once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--actor", required=True, help="who answers for this")
        parser.add_argument("--days", type=int, default=365, help="how long the key lives")

    def handle(self, *args: Any, **options: Any) -> None:
        wanted, actor = _wanted(sys.stdin.read(65_536)), options["actor"]
        try:
            if not _same_is_here(wanted):
                clients.create_client(actor=actor, **wanted)
            key = clients.issue_key(actor=actor, client=wanted["name"], life=timedelta(days=options["days"]))
        except ClientError as error:
            raise CommandError(f"{error.code}: {error.message}") from error
        self.stdout.write(key.plaintext)


def _wanted(text: str) -> dict[str, Any]:
    try:
        wanted = json.loads(text)
    except ValueError as error:
        raise CommandError("stdin must hold one JSON object") from error
    if not isinstance(wanted, dict) or wanted.keys() - _OPTIONAL.keys() != _FIELDS.keys():
        raise CommandError(f"the object has the fields {', '.join(_FIELDS)}, and may have {', '.join(_OPTIONAL)}")
    wanted = {**_OPTIONAL, **wanted}
    for name, kind in {**_FIELDS, **{name: type(value) for name, value in _OPTIONAL.items()}}.items():
        if not isinstance(wanted[name], kind):
            raise CommandError(f"{name} must be {kind.__name__}")
        if kind is list and not all(isinstance(item, str) for item in wanted[name]):
            raise CommandError(f"{name} must be a list of names")
    return wanted


def _same_is_here(wanted: dict[str, Any]) -> bool:
    try:
        here = selectors.client(wanted["name"])
    except ClientNotFoundError:
        return False
    grants = ("tasks", "purposes", "lane", "phi", "features", "tools", "assertion_required")
    if any(_plain(getattr(here, name)) != _plain(wanted[name]) for name in grants):
        raise CommandError("client_exists: a client by that name is here with other rights; change it in the console")
    return True


def _plain(grant: Any) -> Any:
    """A grant as it compares: names without their order."""
    return sorted(set(grant)) if isinstance(grant, list | tuple) else grant
