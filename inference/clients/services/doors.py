"""What every write here shares: the client's row under its lock, and the word to the doors."""

from __future__ import annotations

from django.db import connection

from appliance.audit.services import unaudited
from inference.clients import selectors
from inference.clients.errors import ClientNotFoundError
from inference.clients.models import Client


@unaudited("takes a lock; whoever asked for it records the act")
def locked(name: str) -> Client:
    """The client's row, ours until the transaction ends; or ClientNotFoundError."""
    row = Client.objects.select_for_update().filter(name=name).first()
    if row is None:
        raise ClientNotFoundError("client_unknown", "there is no client by that name")
    return row


@unaudited("a bell; what it rings for is recorded")
def tell() -> None:
    """Delivered by PostgreSQL at commit, and not at all after a rollback."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_notify(%s, '')", [selectors.CHANGED])
