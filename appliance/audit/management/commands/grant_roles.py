"""Give each database role what it needs and nothing more; run by the owner after migrate."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import connection, transaction

# Tables whose rows nobody may change once written.
APPEND_ONLY = ("audit_record",)
SEALED = ("audit_checkpoint", "audit_segment")


class Command(BaseCommand):
    """`manage.py grant_roles`."""

    help = "Grant the application and sealer roles their rights (the owner runs this after migrate)."

    def handle(self, *args: Any, **options: Any) -> None:
        """Revoke everything, then grant table by table: a new table is open to the application, the log never is."""
        site = settings.SITE.postgres
        app, sealer = (connection.ops.quote_name(role) for role in (site.app_role, site.sealer_role))
        with transaction.atomic(), connection.cursor() as cursor:
            for role in (app, sealer):
                cursor.execute(f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {role}")
                cursor.execute(f"GRANT USAGE ON SCHEMA public TO {role}")
            cursor.execute("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
            for table in connection.introspection.table_names(cursor):
                cursor.execute(f"GRANT {_rights(table)} ON {connection.ops.quote_name(table)} TO {app}")
            cursor.execute(f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {app}")
            cursor.execute(f"GRANT SELECT ON audit_record, audit_shard, audit_checkpoint, audit_segment TO {sealer}")
            cursor.execute(f"GRANT INSERT ON audit_checkpoint, audit_segment TO {sealer}")
        self.stdout.write("roles granted")


def _rights(table: str) -> str:
    if table in APPEND_ONLY:
        return "SELECT, INSERT"
    if table in SEALED or table == "django_migrations":
        return "SELECT"
    if table == "audit_shard":
        return "SELECT, INSERT, UPDATE"
    return "SELECT, INSERT, UPDATE, DELETE"
