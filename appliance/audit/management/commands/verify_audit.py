"""Verify the whole audit log and say what was found."""

from __future__ import annotations

import getpass
import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from appliance.audit import selectors, services
from appliance.audit.actions import Action
from appliance.audit.errors import AuditError


class Command(BaseCommand):
    """`manage.py verify_audit [--json] [--request ID]`; exit status 1 when the log is not whole."""

    help = "Verify every audit record against every signed checkpoint."

    def add_arguments(self, parser: CommandParser) -> None:
        """--request also shows the records behind one request."""
        parser.add_argument("--json", action="store_true")
        parser.add_argument("--request", default="", help="also show the records of this request id")

    def handle(self, *args: Any, **options: Any) -> None:
        """Verify, record that somebody did, print, and exit 1 if anything is wrong."""
        try:
            report = selectors.verify().to_dict()
        except AuditError as error:
            report = {"ok": False, "code": "audit_unverifiable", "message": str(error)}
        rows = selectors.of_request(options["request"]) if options["request"] else ()
        with transaction.atomic():
            services.record(
                actor=f"command:{getpass.getuser()}",
                action=Action.AUDIT_VERIFIED,
                kind="read",
                outcome="ok" if report["ok"] else str(report["code"]),
                request_id=options["request"],
                detail={"rows": len(rows)},
            )
        report["records"] = [
            {
                "position": f"{row.shard}/{row.seq}",
                "at": row.at.isoformat(),
                "kind": row.kind,
                "action": row.action,
                "actor": row.actor,
                "client": row.client,
                "purpose": row.purpose,
                "task": row.task,
                "release": row.release,
                "change_id": row.change_id,
                "outcome": row.outcome,
                "input_tokens": row.input_tokens,
                "output_tokens": row.output_tokens,
                "detail": row.detail,
                "leaf": row.leaf,
            }
            for row in rows
        ]
        if options["json"]:
            self.stdout.write(json.dumps(report))
        else:
            self._print(report)
        if not report["ok"]:
            sys.exit(1)

    def _print(self, report: dict[str, Any]) -> None:
        if report["ok"]:
            self.stdout.write(
                f"whole: {report['sealed']} records sealed, {report['unsealed']} waiting for the next checkpoint"
            )
        else:
            self.stdout.write(f"NOT WHOLE ({report['code']}): {report['message']}")
        for row in report["records"]:
            self.stdout.write(
                f"  {row['position']:>10}  {row['at']}  {row['kind']:<8} {row['action']:<22} {row['outcome']}"
            )
