"""A real OpenLDAP directory (Debian's slapd) of a hospital, in a folder and on ports of its own.

Nothing in it is read or bound to without TLS. People and groups are changed as their administrator changes them: by LDAP.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path

import ldap3
from ldap3.utils.conv import escape_filter_chars

from appliance.accounts.directory import _VerifiedTls
from provisioning.evaluation.child import die_with_parent
from provisioning.site_directory import Directory
from tests.simulators.certificates import Authority
from tests.waiting import until

BASE = "dc=hospital,dc=test"
PEOPLE, GROUPS = f"ou=people,{BASE}", f"ou=groups,{BASE}"
ADMIN, ADMIN_SECRET = f"cn=admin,{BASE}", "the-directory-admin"
SERVICE, SERVICE_SECRET = f"cn=isoward,ou=services,{BASE}", "the-service-password"
ROLES = {
    "it_admin": (f"cn=Isoward Admins,{GROUPS}",),
    "auditor": (f"cn=isoward-auditors,{GROUPS}", f"CN = Internal Audit , {GROUPS}"),
    "viewer": (f"cn=isoward-viewers,{GROUPS}",),
    "clinician_reviewer": (f"cn=isoward-clinicians,{GROUPS}",),
}
CONFIGURATION = """\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
pidfile {folder}/slapd.pid
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCACertificateFile {ca}
TLSCertificateFile {certificate}
TLSCertificateKeyFile {key}
TLSProtocolMin 3.3
security ssf=128
disallow bind_anon
database mdb
suffix "{base}"
rootdn "{admin}"
rootpw {admin_secret}
directory {folder}/data
maxsize 16777216
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="{service}" read by * none
"""


def find() -> str | None:
    return shutil.which("slapd", path="/usr/sbin:/usr/local/sbin:/usr/bin")


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Slapd:
    """One running directory."""

    folder: Path
    port: int = field(default_factory=free_port)
    secure_port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        (self.folder / "data").mkdir(parents=True)
        self.authority = Authority(self.folder / "ca")
        certificate, key = self.authority.sign("127.0.0.1", "localhost")
        text = CONFIGURATION.format(
            folder=self.folder,
            ca=self.authority.file,
            certificate=certificate,
            key=key,
            base=BASE,
            admin=ADMIN,
            admin_secret=ADMIN_SECRET,
            service=SERVICE,
        )
        (self.folder / "slapd.conf").write_text(text)

    @property
    def site(self) -> Directory:
        """What a site file would say of it."""
        return Directory(
            host="127.0.0.1",
            port=self.port,
            tls="starttls",
            ca_file=self.authority.file,
            timeout_s=2,
            bind_dn=SERVICE,
            user_base=PEOPLE,
            user_filter="(&(objectClass=inetOrgPerson)(uid={name}))",
            disabled_filter="(employeeType=disabled)",
            name_attribute="uid",
            display_attribute="cn",
            id_attribute="entryUUID",
            group_base=GROUPS,
            group_filter="(&(objectClass=groupOfNames)(member={dn}))",
            roles=ROLES,
        )

    @property
    def secure_site(self) -> Directory:
        """The same, by TLS from the first byte."""
        return replace(self.site, tls="ldaps", port=self.secure_port)

    def start(self) -> Slapd:
        addresses = f"ldap://127.0.0.1:{self.port}/ ldap://127.0.0.2:{self.port}/ ldaps://127.0.0.1:{self.secure_port}/"
        program = find() or "slapd"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [program, "-f", str(self.folder / "slapd.conf"), "-h", addresses, "-d", "0"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - pytest's main thread
            )
        until(self._answers, 20, "slapd answers")
        return self

    def _answers(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None

    def fill(self) -> None:
        """The hospital's tree, without anybody in it; a group always has its own service account as a member."""
        self.add(BASE, ["dcObject", "organization"], o="Hospital", dc="hospital")
        for unit in ("people", "groups", "services"):
            self.add(f"ou={unit},{BASE}", ["organizationalUnit"], ou=unit)
        self.add(SERVICE, ["organizationalRole", "simpleSecurityObject"], cn="isoward", userPassword=SERVICE_SECRET)
        for name in (
            "Isoward Admins",
            "isoward-auditors",
            "internal audit",
            "isoward-viewers",
            "isoward-clinicians",
            "staff",
        ):
            self.add(f"cn={name},{GROUPS}", ["groupOfNames"], cn=name, member=SERVICE)

    def person(self, name: str, *groups: str, password: str, title: str = "") -> str:
        """Somebody in these groups; returns their entry's name."""
        dn = f"uid={name},{PEOPLE}"
        self.add(dn, ["inetOrgPerson"], uid=name, cn=title or name.title(), sn=name, userPassword=password)
        for group in groups:
            self.join(name, group)
        return dn

    def join(self, name: str, group: str) -> None:
        self._modify(f"cn={group},{GROUPS}", {"member": [(ldap3.MODIFY_ADD, [f"uid={name},{PEOPLE}"])]})

    def leave(self, name: str, group: str) -> None:
        self._modify(f"cn={group},{GROUPS}", {"member": [(ldap3.MODIFY_DELETE, [f"uid={name},{PEOPLE}"])]})

    def rejoin(self, was: str, name: str, group: str) -> None:
        """A membership follows a new name: slapd leaves that to its administrator."""
        self.leave(was, group)
        self.join(name, group)

    def disable(self, name: str) -> None:
        self._modify(f"uid={name},{PEOPLE}", {"employeeType": [(ldap3.MODIFY_REPLACE, ["disabled"])]})

    def remove(self, dn: str) -> None:
        """An entry, and its memberships with it."""
        with self._admin() as connection:
            connection.search(GROUPS, f"(member={escape_filter_chars(dn)})", attributes=[])
            for group in [row["dn"] for row in connection.response]:
                connection.modify(group, {"member": [(ldap3.MODIFY_DELETE, [dn])]})
            assert connection.delete(dn), connection.result

    def remove_referral(self, dn: str) -> None:
        with self._admin() as connection:
            assert connection.delete(dn, controls=[("2.16.840.1.113730.3.4.2", True, None)]), connection.result

    def rename(self, name: str, to: str) -> None:
        with self._admin() as connection:
            assert connection.modify_dn(f"uid={name},{PEOPLE}", f"uid={to}"), connection.result

    def add(self, dn: str, classes: list[str], **values: str) -> None:
        with self._admin() as connection:
            assert connection.add(dn, classes, values), connection.result

    def _modify(self, dn: str, changes: dict[str, list[tuple[str, list[str]]]]) -> None:
        with self._admin() as connection:
            assert connection.modify(dn, changes), connection.result

    def _admin(self) -> ldap3.Connection:
        server = ldap3.Server("127.0.0.1", port=self.port, tls=_VerifiedTls(self.site), get_info=ldap3.NONE)
        return ldap3.Connection(
            server, user=ADMIN, password=ADMIN_SECRET, auto_bind=ldap3.AUTO_BIND_TLS_BEFORE_BIND, check_names=False
        )
