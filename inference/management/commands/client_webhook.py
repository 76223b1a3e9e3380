"""Say where a client is told that its work has ended, or stop telling it. The secret is printed once, here."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from inference.clients import selectors as clients
from inference.clients.errors import ClientError
from inference.queue import services as queue
from inference.queue.errors import WebhookError


class Command(BaseCommand):
    """`manage.py client_webhook ward-7 --actor erin --url http://10.1.2.3:8443/done`, or `--remove`."""

    help = "Register or remove the address at which a client is told that its jobs and batches have ended."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("client")
        parser.add_argument("--actor", required=True, help="who answers for this")
        act = parser.add_mutually_exclusive_group(required=True)
        act.add_argument("--url", help="an IP address inside [webhooks] of the site file")
        act.add_argument("--remove", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        about = {"actor": options["actor"], "client": options["client"]}
        try:
            clients.client(options["client"])
            if options["remove"]:
                queue.remove_webhook(**about)
                self.stdout.write(f"{options['client']} is told nothing any more")
                return
            secret = queue.register_webhook(url=options["url"], allowed=settings.SITE.webhooks, **about)
        except (ClientError, WebhookError) as error:
            raise CommandError(f"{error.code}: {error.message}") from error
        self.stdout.write(secret)
