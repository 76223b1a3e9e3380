"""Stands before Django's command of this name: there is no superuser on this machine."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError


class Command(BaseCommand):
    """`manage.py createsuperuser`: refused."""

    help = "Refused: rights come from roles, and no role may do everything."

    def handle(self, *args: Any, **options: Any) -> None:
        """Say what to use instead."""
        raise CommandError("There is no superuser here. Use create_person with roles that may stand together.")
