"""What an evaluation site has already done, read from its database, so that `make up` repeats nothing.

Reads only. Every write goes through the product's own commands.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from provisioning import site_config
from provisioning.bundle.facts import FileFact, release_digest


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


def release_known(site: site_config.Site, *, digest: str) -> bool:
    """Whether exactly these files were imported on this box before."""
    return bool(_rows(site, "SELECT 1 FROM releases_release WHERE digest = %s AND withdrawn_at IS NULL", digest))


def digest_on_medium(folder: Path) -> str:
    """The release digest that the files of a bundle would have; nothing is verified by this."""
    facts = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            facts.append(FileFact(path.relative_to(folder).as_posix(), path.stat().st_size, digest))
    return release_digest(facts)


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
