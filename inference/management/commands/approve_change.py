"""Approve a change from the command line, with the person's password and one-time code.

Both come from standard input or a prompt, never from an argument: arguments stand in every process list.
"""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from appliance.accounts.errors import AccountError
from appliance.audit import services as audit
from appliance.changes import selectors
from appliance.changes import services as changes
from appliance.changes.errors import ChangeError


class Command(BaseCommand):
    """`manage.py approve_change 7 --actor bob`, then password and code: asked for, or two lines on standard input."""

    help = "Sign a change as one of its approvers; the last approval carries it out."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("change", type=int, help="the change's number")
        parser.add_argument("--actor", required=True, help="the member of staff who approves")

    def handle(self, *args: Any, change: int, actor: str, **options: Any) -> None:
        found = selectors.change(change)
        if found is None:
            raise CommandError("change_unknown: there is no such change")
        self.stderr.write(
            f"{found.label}\n  subject {found.subject}\n  digest  {found.digest}\n  proposed by {found.proposer}: "
            f"{found.reason}"
        )
        password, code = _secrets(actor)
        try:
            tally = changes.approve(actor=actor, change_id=change, password=password, code=code)
        except (AccountError, ChangeError) as error:
            audit.refuse(actor=actor, target=found.subject, outcome=error.code, detail={"change": change})
            raise CommandError(f"{error.code}: {error}") from error
        after = selectors.change(change)
        state = after.state if after else ""
        if state == "failed" and after:
            raise CommandError(f"approved, but it could not be carried out: {after.message}")
        self.stdout.write(f"{len(tally.approved_by)} of {tally.needed} approvals; the change is {state}")


def _secrets(actor: str) -> tuple[str, str]:
    if sys.stdin.isatty():
        return getpass.getpass(f"Password of {actor}: "), getpass.getpass("One-time code: ")
    password, code = sys.stdin.readline().rstrip("\n"), sys.stdin.readline().rstrip("\n")
    if not password or not code:
        raise CommandError("standard input must hold two lines: the password and the one-time code")
    return password, code
