"""Stands before Django's command of this name, which would set anybody's password and leave no record of it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """`manage.py changepassword`: refused."""

    help = "Refused: a password that somebody else has set would also open that person's signing key."

    def handle(self, *args: Any, **options: Any) -> None:
        """Say what to use instead."""
        raise CommandError(
            "Nobody sets another person's password here. Deactivate the account and create a new one under a new name."
        )

    def add_arguments(self, parser: Any) -> None:
        """Take what Django's command takes, so that the answer is ours."""
        parser.add_argument("username", nargs="?")
