"""Issue a key for a client. Its text is printed once, here, and kept nowhere."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from inference.clients import services as clients
from inference.clients.errors import ClientError


class Command(BaseCommand):
    """`manage.py issue_key ward-7 --actor erin`."""

    help = "Issue a key for a client and print it once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("client")
        parser.add_argument("--actor", required=True, help="who answers for this")
        parser.add_argument("--days", type=int, default=365)
        parser.add_argument("--json", action="store_true", dest="as_json")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            key = clients.issue_key(
                actor=options["actor"], client=options["client"], life=timedelta(days=options["days"])
            )
        except ClientError as error:
            raise CommandError(f"{error.code}: {error.message}") from error
        facts = {"client": key.client, "prefix": key.prefix, "expires": key.expires.isoformat(), "key": key.plaintext}
        self.stdout.write(json.dumps(facts) if options["as_json"] else "\n".join(f"{k}: {v}" for k, v in facts.items()))
