"""Reads of clients: what pages show (`views`), and one frozen snapshot of all rights for the doors (`snapshot`)."""

from inference.clients.selectors.snapshot import CHANGED, Held, Snapshot, snapshot
from inference.clients.selectors.views import (
    ClientView,
    IssuerKeyView,
    IssuerView,
    KeyView,
    client,
    clients,
    issuers,
    listed,
)

__all__ = [
    "CHANGED",
    "ClientView",
    "Held",
    "IssuerKeyView",
    "IssuerView",
    "KeyView",
    "Snapshot",
    "client",
    "clients",
    "issuers",
    "listed",
    "snapshot",
]
