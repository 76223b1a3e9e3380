"""What an evaluation site has already done, read from its database, so that `make up` repeats nothing.

Reads only. Every write goes through the product's own commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from provisioning import site_config


@dataclass(frozen=True)
class Deployment:
    """The newest live deployment: which release, under which change, and how far it is."""

    id: int
    release: str
    change_id: int
    slot: str
    state: str
    message: str


def _rows(site: site_config.Site, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with psycopg.connect(site.postgres.conninfo(site.postgres.app_role), connect_timeout=5) as connection:
        return connection.execute(query, values).fetchall()


def release(site: site_config.Site, *, name: str, version: int) -> str:
    """The digest of this bundle's release on this box; empty when it was never imported."""
    rows = _rows(
        site,
        "SELECT digest FROM releases_release WHERE name = %s AND version = %s AND withdrawn_at IS NULL",
        name,
        version,
    )
    return str(rows[0][0]) if rows else ""


def deployment(site: site_config.Site) -> Deployment | None:
    """What serves, or is about to, or why the newest one does not."""
    rows = _rows(
        site,
        "SELECT d.id, r.digest, d.change_id, d.slot, d.state, d.message FROM releases_deployment d"
        " JOIN releases_release r ON r.id = d.release_id"
        " ORDER BY (d.state IN ('starting', 'serving')) DESC, d.id DESC LIMIT 1",
    )
    return Deployment(*rows[0]) if rows else None


def open_change(site: site_config.Site, *, subject: str) -> int:
    """The change about this release that still waits for approvals; 0 when none does."""
    rows = _rows(
        site, "SELECT id FROM changes_change WHERE subject = %s AND state = 'open' ORDER BY id DESC LIMIT 1", subject
    )
    return int(rows[0][0]) if rows else 0


def approvers(site: site_config.Site, *, change_id: int) -> list[str]:
    """Who signed this change."""
    rows = _rows(site, "SELECT approver FROM changes_approval WHERE change_id = %s ORDER BY approver", change_id)
    return [str(row[0]) for row in rows]


def client_exists(site: site_config.Site, *, name: str) -> bool:
    return bool(_rows(site, "SELECT 1 FROM clients_client WHERE name = %s", name))
