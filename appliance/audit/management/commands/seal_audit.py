"""The sealer's process: signs a checkpoint every second while there is anything new."""

from __future__ import annotations

import logging
import signal
import threading
from typing import Any

import psycopg
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from appliance.audit import sealer as sealing
from appliance.audit import selectors

log = logging.getLogger("appliance.audit.sealer")


class Command(BaseCommand):
    """`manage.py seal_audit [--once]`."""

    help = "Seal new audit records into signed checkpoints, every second."

    def add_arguments(self, parser: CommandParser) -> None:
        """--once seals what is there and exits."""
        parser.add_argument("--once", action="store_true")
        parser.add_argument("--interval", type=float, default=1.0, help="seconds between checkpoints")

    def handle(self, *args: Any, **options: Any) -> None:
        """Seal until told to stop; a tampered log ends the process with a failure and seals nothing more."""
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        key = selectors.sealer_private_key()
        memory = selectors.sealer_memory()
        memory.parent.mkdir(parents=True, exist_ok=True)
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
        memory.with_name("public-key").write_text(public + "\n", encoding="ascii")
        while not stop.is_set():
            try:
                with sealing.connect(settings.SITE.postgres.conninfo(settings.DB_ROLE)) as connection:
                    sealer = sealing.Sealer.open(connection, key=key, origin=selectors.origin(), memory=memory)
                    while not stop.is_set():
                        count = sealer.step()
                        if count:
                            log.info("audit_sealed", extra={"records": count, "size": sealer.tree.size})
                        if options["once"]:
                            return
                        stop.wait(options["interval"])
            except psycopg.OperationalError:
                log.warning("sealer_database_away")
                if options["once"]:
                    raise
                stop.wait(options["interval"])
