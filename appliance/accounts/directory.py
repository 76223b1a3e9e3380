"""The hospital's LDAP directory: whether a name and a password belong together there, and in which groups the person is.

Decides nothing about roles (see `rules`) and writes nothing. The only import of ldap3.

- No password leaves in the clear: STARTTLS or LDAPS, the certificate checked against the site's own CA and the host's
  name by OpenSSL, before anything is said; otherwise there is no answer at all.
- An empty password is refused before it is sent: a server takes it for an anonymous bind and says yes (RFC 4513, 5.1.2).
- What goes into a filter is escaped, over and above the rule for names. Referrals are not followed: a password goes to
  the one host the site names.
- A name nobody has costs a bind too, so that the time tells no names.
- Whatever goes wrong is DirectoryUnavailableError, and nobody comes in by it.
"""

from __future__ import annotations

import logging
import ssl
from dataclasses import dataclass
from typing import Any

import ldap3
from ldap3.core.exceptions import LDAPException
from ldap3.core.tls import Tls
from ldap3.utils.conv import escape_filter_chars
from ldap3.utils.dn import parse_dn

from appliance.accounts.errors import DirectoryUnavailableError
from provisioning.site_directory import NAME, PERSON, Directory

log = logging.getLogger(__name__)

_INVALID_CREDENTIALS = 49
_SUCCESS = 0
_MOST_GROUPS = 1000
_MOST_TEXT = 120


@dataclass(frozen=True)
class Entry:
    """A person as the directory knows them, once their password was right."""

    id: str
    """The directory's own, never used again for anybody else; names are."""
    display_name: str
    groups: frozenset[str]
    """The full names (DN) of the groups, in one spelling."""
    disabled: bool


class _VerifiedTls(Tls):  # type: ignore[misc]  # ldap3 ships no types
    """OpenSSL checks chain and name itself; ldap3's own check of the name is a copy of one Python has dropped."""

    def __init__(self, site: Directory) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED, ca_certs_file=str(site.ca_file))
        self._site = site

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:  # noqa: FBT001, FBT002 - ldap3's own signature
        """The handshake is done when this returns, whatever the caller asked for."""
        del do_handshake
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(self._site.ca_file))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        connection.socket = context.wrap_socket(connection.socket, server_hostname=self._site.host)


def spelled(name: str) -> str:
    """A DN in one spelling, so that blanks and capitals do not make two groups of one; "" for what is none."""
    try:
        parts = parse_dn(name, strip=True)
    except LDAPException:
        return ""
    return ",".join(f"{kind.strip().lower()}={value.strip().lower()}" for kind, value, _ in parts)


def ask(site: Directory, *, secret: str, username: str, password: str) -> Entry | None:
    """The person whose name and password these are; None when they are nobody's. The caller holds names to their rule."""
    if not password or "\x00" in password:
        return None
    try:
        return _ask(site, secret, username, password)
    except (LDAPException, OSError) as error:
        # The class only: its text may quote what was sent.
        log.warning("directory_unavailable", extra={"error": type(error).__name__})
        raise DirectoryUnavailableError from None


def _ask(site: Directory, secret: str, username: str, password: str) -> Entry | None:
    service = _connect(site, site.bind_dn, secret)
    try:
        if not _bind(service):
            raise DirectoryUnavailableError
        found = _search(service, site.user_base, site.user_filter.replace(NAME, escape_filter_chars(username)), site)
        # Two entries under one name, or one under another's: nobody, rather than the first.
        person = found[0] if len(found) == 1 and _first(found[0], site.name_attribute).lower() == username else None
        # The bind comes for everybody, against the base for nobody, so that both take as long.
        right = _try_password(site, person["dn"] if person else site.user_base, password)
        if person is None or not right:
            return None
        return _entry(service, site, person)
    finally:
        service.unbind()


def _try_password(site: Directory, dn: str, password: str) -> bool:
    own = _connect(site, dn, password)
    try:
        return _bind(own)
    finally:
        own.unbind()


def _entry(service: Any, site: Directory, person: dict[str, Any]) -> Entry | None:
    dn = person["dn"]
    identity = _first(person, site.id_attribute)
    if not identity:
        raise DirectoryUnavailableError
    disabled = _search(service, dn, site.disabled_filter, site, scope=ldap3.BASE)
    groups = _search(service, site.group_base, site.group_filter.replace(PERSON, escape_filter_chars(dn)), site)
    return Entry(
        id=identity,
        display_name=_first(person, site.display_attribute),
        groups=frozenset(spelled(group["dn"]) for group in groups) - {""},
        disabled=bool(disabled),
    )


def _connect(site: Directory, dn: str, password: str) -> Any:
    server = ldap3.Server(
        site.host,
        port=site.port,
        use_ssl=site.tls == "ldaps",
        tls=_VerifiedTls(site),
        get_info=ldap3.NONE,
        connect_timeout=site.timeout_s,
        allowed_referral_hosts=[],
    )
    connection = ldap3.Connection(
        server,
        user=dn,
        password=password,
        authentication=ldap3.SIMPLE,
        auto_bind=ldap3.AUTO_BIND_NONE,
        auto_referrals=False,
        read_only=True,
        check_names=False,
        receive_timeout=site.timeout_s,
    )
    connection.open(read_server_info=False)
    if site.tls == "starttls" and not connection.start_tls(read_server_info=False):
        raise DirectoryUnavailableError
    if not isinstance(connection.socket, ssl.SSLSocket):
        raise DirectoryUnavailableError
    return connection


def _bind(connection: Any) -> bool:
    """Whether the password was right; anything but yes and no is no answer."""
    connection.bind(read_server_info=False)
    code = connection.result["result"]
    if code not in (_SUCCESS, _INVALID_CREDENTIALS):
        raise DirectoryUnavailableError
    return bool(code == _SUCCESS)


def _search(
    service: Any, base: str, wanted: str, site: Directory, *, scope: str = ldap3.SUBTREE
) -> list[dict[str, Any]]:
    attributes = [site.name_attribute, site.display_attribute, site.id_attribute]
    service.search(base, wanted, search_scope=scope, attributes=attributes, size_limit=_MOST_GROUPS)
    if service.result["result"] != _SUCCESS:
        # Cut short, refused or referred elsewhere: half an answer is none.
        raise DirectoryUnavailableError
    return [row for row in service.response or () if row["type"] == "searchResEntry"]


def _first(entry: dict[str, Any], attribute: str) -> str:
    """The one value of an attribute, as text; "" when there is none, or several."""
    values = entry["raw_attributes"].get(attribute, [])
    if len(values) != 1:
        return ""
    try:
        text: str = values[0].decode("utf-8")
    except UnicodeDecodeError:
        text = values[0].hex()  # Active Directory's objectGUID is bytes
    return text[:_MOST_TEXT] if text.isprintable() else values[0].hex()[:_MOST_TEXT]
