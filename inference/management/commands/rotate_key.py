"""Give a client a new key for an old one, which goes on for a while. The new text is printed once, here."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from inference.clients import services as clients
from inference.clients.errors import ClientError
from inference.management.commands._key import printed


class Command(BaseCommand):
    """`manage.py rotate_key iwk_0123abcd --actor erin --overlap-hours 24`."""

    help = "Issue a key with the scope of an old one, end the old one after the overlap, and print the new one once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("prefix")
        parser.add_argument("--actor", required=True, help="who answers for this")
        parser.add_argument("--overlap-hours", type=int, default=24, help="how long the old key still works")
        parser.add_argument("--days", type=int, default=365, help="how long the new key lives")
        parser.add_argument("--json", action="store_true", dest="as_json")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            key = clients.rotate_key(
                actor=options["actor"],
                prefix=options["prefix"],
                overlap=timedelta(hours=options["overlap_hours"]),
                life=timedelta(days=options["days"]),
            )
        except ClientError as error:
            raise CommandError(f"{error.code}: {error.message}") from error
        self.stdout.write(printed(key, as_json=options["as_json"]))
