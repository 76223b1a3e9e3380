"""Issue a key for a client. Its text is printed once, here, and kept nowhere."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from inference.clients import rules
from inference.clients import services as clients
from inference.clients.errors import ClientError
from inference.management.commands._key import printed
from inference.policy.catalog import FEATURES, LANES, PURPOSES, TASKS, Feature, Lane


class Command(BaseCommand):
    """`manage.py issue_key ward-7 --actor erin --task progress_note --network 10.1.2.0/24`."""

    help = "Issue a key for a client and print it once. What is not narrowed is what the client is granted."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("client")
        parser.add_argument("--actor", required=True, help="who answers for this")
        parser.add_argument("--days", type=int, default=365)
        parser.add_argument("--json", action="store_true", dest="as_json")
        parser.add_argument("--task", action="append", choices=sorted(TASKS), help="only this task; may be repeated")
        parser.add_argument("--purpose", action="append", choices=PURPOSES, help="only this purpose; may be repeated")
        parser.add_argument("--lane", choices=LANES, help="a less urgent lane than the client's")
        parser.add_argument("--no-phi", action="store_true", help="this key may not send PHI")
        parser.add_argument("--model", action="append", help="only this served model; may be repeated")
        parser.add_argument("--feature", action="append", choices=FEATURES, help="only this feature; may be repeated")
        parser.add_argument("--tool", action="append", help="only this function's name; may be repeated")
        parser.add_argument("--network", action="append", default=[], help="usable from here only; may be repeated")
        parser.add_argument("--certificate", default="", help="SHA-256 fingerprint of the client certificate it needs")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            key = clients.issue_key(
                actor=options["actor"],
                client=options["client"],
                life=timedelta(days=options["days"]),
                scope=_scope(options),
            )
        except ClientError as error:
            raise CommandError(f"{error.code}: {error.message}") from error
        self.stdout.write(printed(key, as_json=options["as_json"]))


def _scope(options: dict[str, Any]) -> rules.Scope:
    def only(name: str) -> frozenset[str] | None:
        return None if options[name] is None else frozenset(options[name])

    return rules.Scope(
        rules.Narrowing(
            tasks=only("task"),
            purposes=only("purpose"),
            lane=Lane(options["lane"]) if options["lane"] else None,
            phi=not options["no_phi"],
            models=only("model"),
            features=None if options["feature"] is None else frozenset(Feature(name) for name in options["feature"]),
            tools=only("tool"),
        ),
        rules.Bounds(rules.networks(options["network"]), rules.fingerprint(options["certificate"])),
    )
