"""The site file's table [directory]: which LDAP directory says who works here, and what its groups are worth.

Decides: which keys there are and what they must look like. Leaves to others: which roles exist and which may come from a
directory (appliance.accounts.rules), and speaking to it (appliance.accounts.directory).

- There is no key that turns TLS off, and none that turns its check off.
- A group that is not listed here is worth nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from provisioning.site_table import Table

# Where the name or the person's own entry goes into a filter; what goes in is escaped first.
NAME, PERSON = "{name}", "{dn}"


@dataclass(frozen=True)
class Directory:
    """One LDAP directory: how to reach it, how to find a person in it, and which groups give which roles."""

    host: str
    port: int
    tls: str
    """`starttls` or `ldaps`; the certificate is checked either way."""
    ca_file: Path
    timeout_s: int
    bind_dn: str
    """Who we are there; the password is the secret `directory-bind`."""
    user_base: str
    user_filter: str
    disabled_filter: str
    name_attribute: str
    display_attribute: str
    id_attribute: str
    group_base: str
    group_filter: str
    roles: Mapping[str, tuple[str, ...]]
    """From the role to the full names (DN) of the groups that give it."""


def read(table: Table) -> Directory:
    """The table as a value; SiteError with the key and the fix when anything is odd."""
    return Directory(
        host=table.text("host"),
        port=table.number("port", 1, 65535),
        tls=table.choice("tls", ("starttls", "ldaps")),
        ca_file=table.path("ca_file"),
        timeout_s=table.number("timeout_s", 1, 10),
        bind_dn=table.text("bind_dn"),
        user_base=table.text("user_base"),
        user_filter=_filter(table, "user_filter", NAME),
        disabled_filter=_filter(table, "disabled_filter", ""),
        name_attribute=table.text("name_attribute"),
        display_attribute=table.text("display_attribute"),
        id_attribute=table.text("id_attribute"),
        group_base=table.text("group_base"),
        group_filter=_filter(table, "group_filter", PERSON),
        roles=table.lists("roles"),
    )


def _filter(table: Table, key: str, place: str) -> str:
    value = table.text(key)
    rest = value.replace(place, "", 1) if place else value
    if not value.startswith("(") or not value.endswith(")") or (place and place not in value) or set(rest) & set("{}"):
        wanted = f" that holds {place} once" if place else " without any brace"
        raise table.refusal(key, f"is {value!r}; write an LDAP filter in brackets{wanted}")
    return value
