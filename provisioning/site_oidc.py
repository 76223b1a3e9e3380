"""The site file's table [oidc]: the identity provider on the hospital's own network, and what its groups are worth.

Decides: which keys there are and what they must look like. Leaves to others: which roles exist (appliance.accounts.rules)
and speaking to it (appliance.accounts.oidc).

Every address is written here. Nothing is discovered: an answer of the provider cannot name another place to go to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from provisioning.site_table import Table


@dataclass(frozen=True)
class Provider:
    """One OpenID Connect provider; our password there is the secret `oidc-client`."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    ca_file: Path
    timeout_s: int
    client_id: str
    redirect_uri: str
    """The console's own address as people's browsers know it, and /sign-in/provider/callback."""
    username_claim: str
    name_claim: str
    groups_claim: str
    roles: Mapping[str, tuple[str, ...]]
    """From the role to the groups that give it, as the provider writes them."""


def read(table: Table) -> Provider:
    """The table as a value; SiteError with the key and the fix when anything is odd."""
    return Provider(
        issuer=_https(table, "issuer"),
        authorization_endpoint=_https(table, "authorization_endpoint"),
        token_endpoint=_https(table, "token_endpoint"),
        jwks_uri=_https(table, "jwks_uri"),
        ca_file=table.path("ca_file"),
        timeout_s=table.number("timeout_s", 1, 10),
        client_id=table.text("client_id"),
        redirect_uri=table.text("redirect_uri"),
        username_claim=table.text("username_claim"),
        name_claim=table.text("name_claim"),
        groups_claim=table.text("groups_claim"),
        roles=table.lists("roles"),
    )


def _https(table: Table, key: str) -> str:
    value = table.text(key)
    try:
        parts = urlsplit(value)
        plain = parts.scheme == "https" and parts.hostname and not (parts.username or parts.fragment or parts.query)
        _ = parts.port
    except ValueError:
        plain = False
    if not plain:
        raise table.refusal(key, f"is {value!r}; write an address that begins with https://, without a query")
    return value
