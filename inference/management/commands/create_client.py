"""Register a clinical application and give it a key: the same services as the console, from the command line."""

from __future__ import annotations

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from appliance.accounts import selectors as accounts
from appliance.accounts.permissions import Permission
from inference.clients import services as clients
from inference.clients.errors import ClientRefusedError

FIELDS = {"name": str, "title": str, "owner": str, "tasks": list, "purposes": list, "lane": str, "phi": bool}


class Command(BaseCommand):
    """`manage.py create_client --actor erin < client.json`: name, title, owner, tasks, purposes, lane, phi."""

    help = "Register a client from a JSON object on standard input; prints its key, once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--actor", required=True, help="the member of staff who registers it")

    def handle(self, *args: Any, actor: str, **options: Any) -> None:
        if Permission.CLIENT_MANAGE not in accounts.permissions_of(actor):
            raise CommandError("--actor names nobody who may manage clients")
        wanted = _read()
        try:
            clients.create_client(actor=actor, **wanted)
            issued = clients.issue_key(actor=actor, client=wanted["name"])
        except ClientRefusedError as error:
            raise CommandError(f"{error.code}: {error}") from error
        self.stderr.write(f"{issued.client}: key {issued.prefix} until {issued.expires:%Y-%m-%d}; it is shown only now")
        self.stdout.write(issued.plaintext)


def _read() -> dict[str, Any]:
    try:
        value = json.load(sys.stdin)
    except ValueError as error:
        raise CommandError("standard input is not JSON") from error
    if not isinstance(value, dict) or set(value) != set(FIELDS):
        raise CommandError(f"standard input must be an object with exactly: {', '.join(FIELDS)}")
    for name, kind in FIELDS.items():
        if type(value[name]) is not kind:
            raise CommandError(f"{name} must be a {kind.__name__}")
    return value
