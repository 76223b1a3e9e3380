"""Who may vouch for users: register an issuer, change its public keys, suspend it, list what is registered."""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from inference.clients import selectors
from inference.clients import services as clients
from inference.clients.errors import ClientError

_DOES = ("register", "add-key", "retire-key", "suspend", "resume", "list")


class Command(BaseCommand):
    """`manage.py assertion_issuer add-key hospital-idp --kid 2026-11 --actor erin < public.pem`."""

    help = "Issuers of end-user assertions. A key is read from stdin, as PEM: openssl pkey -pubout"

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("act", choices=_DOES)
        parser.add_argument("name", nargs="?", default="", help="the issuer, such as hospital-idp")
        parser.add_argument("--actor", required=True, help="who answers for this")
        parser.add_argument("--iss", default="", help="register: the iss its assertions carry")
        parser.add_argument("--client", default="", help="register: the one client it may vouch for; none for all")
        parser.add_argument("--days", type=int, default=730, help="register: how long it counts")
        parser.add_argument("--kid", default="", help="add-key, retire-key: the kid its assertions name")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._act(options)
        except ClientError as error:
            raise CommandError(f"{error.code}: {error.message}") from error

    def _act(self, options: dict[str, Any]) -> None:
        actor, name = options["actor"], options["name"]
        match options["act"]:
            case "register":
                life = timedelta(days=options["days"])
                clients.register_issuer(actor=actor, name=name, iss=options["iss"], client=options["client"], life=life)
            case "add-key":
                pem = sys.stdin.read(16_384)
                key = clients.add_issuer_key(actor=actor, issuer=name, kid=options["kid"], pem=pem)
                self.stdout.write(f"{key.algorithm} {key.sha256}")
            case "retire-key":
                clients.retire_issuer_key(actor=actor, issuer=name, kid=options["kid"])
            case "suspend" | "resume":
                clients.set_issuer_state(actor=actor, issuer=name, active=options["act"] == "resume")
            case _:
                for item in selectors.issuers():
                    self.stdout.write(json.dumps(_facts(item)))


def _facts(item: selectors.IssuerView) -> dict[str, Any]:
    return {
        "name": item.name,
        "iss": item.iss,
        "client": item.client or None,
        "state": item.state,
        "expires": item.expires.isoformat(),
        "keys": [
            {"kid": key.kid, "algorithm": key.algorithm, "retired": key.retired_at is not None} for key in item.keys
        ],
    }
