"""The site file: what is particular to this one box, read once into a frozen `Site`.

Decides: which keys exist, their types and bounds, and that nothing is missing or unknown.
Leaves to others: making the directories and secrets (site_keys), and what Django does with it (appliance.settings).

- Every error names the file, the key and what to write there. Nothing has a silent default.
- Secrets are files, never keys in the site file; a secret that others could read is refused.
"""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from zoneinfo import ZoneInfo

from provisioning import private_file, site_channels, site_directory, site_oidc
from provisioning.site_channels import Channel, ChannelError, Scrape
from provisioning.site_table import SiteError as SiteError  # noqa: PLC0414 - everybody reads it as site_config.SiteError
from provisioning.site_table import Table

DEFAULT_PATH = Path("/etc/appliance/site.toml")
ENVIRONMENT_KEY = "ISOWARD_SITE"

# sun_path in the kernel's sockaddr_un is 108 bytes with the closing zero.
SOCKET_PATH_LIMIT = 107
SLOTS = ("a", "b")
OPTIONAL = ("webhooks", "directory", "oidc")

# The length each secret must have, in bytes; None means bounded text (PEM).
SECRET_SIZES: dict[str, int | None] = {
    "django-secret-key": 64,
    "keyring-kek": 32,
    "audit-hmac": 32,
    "roster-key": 32,
    "sealer-key": None,
    "engine-api-key": 64,
    "alert-webhook-key": 32,
}
# Given to this box by somebody else, so site_keys makes none: needed only with the table they belong to.
GIVEN_SECRETS = ("directory-bind", "oidc-client")
SECRET_TEXT_LIMIT = 4096


@dataclass(frozen=True)
class Postgres:
    """Where PostgreSQL listens, and the three roles we are there."""

    socket_dir: Path
    port: int
    database: str
    owner_role: str
    app_role: str
    sealer_role: str

    def conninfo(self, role: str) -> str:
        """The libpq string for one of our roles, over the unix socket."""
        if role not in (self.owner_role, self.app_role, self.sealer_role):
            raise SiteError(f"[postgres] knows no role {role!r}: use the owner, app or sealer role")
        return f"host='{self.socket_dir}' port={self.port} dbname={self.database} user={role}"


@dataclass(frozen=True)
class Listener:
    """One of the two doors: where it listens and under which names it may be called."""

    host: str
    port: int
    tls: bool
    allowed_hosts: tuple[str, ...]
    workers: int

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def name(self) -> str:
        """The first allowed host that is a name, or nothing: security keys are bound to a name, never to an address."""
        return next((host for host in self.allowed_hosts if host[0] not in ".*" and not _is_address(host)), "")

    @property
    def origins(self) -> tuple[str, ...]:
        """Where a browser may have been when a security key answered: that name, through nginx or on our own port."""
        if not self.name:
            return ()
        place = f"{'https' if self.tls else 'http'}://{self.name}"
        return (place, f"{place}:{self.port}")


@dataclass(frozen=True)
class EngineSite:
    """What this machine gives the engine."""

    python: Path
    device: str
    start_timeout_s: int
    kv_cache_gib: int
    max_model_len: int
    max_num_seqs: int

    @property
    def seats(self) -> int:
        """What the engine may run at once: some more than batch keeps in it, so that a person who asks while it is full
        of batch does not wait until a line of it ends. vLLM's priority orders what waits; it makes nobody leave.
        """
        return self.max_num_seqs + max(4, self.max_num_seqs // 8)


@dataclass(frozen=True)
class Destination:
    """Where on the LAN this machine may tell an app that its work is done: a network and one port."""

    network: IPv4Network | IPv6Network
    port: int


@dataclass(frozen=True)
class Site:
    """One box, as its site file describes it."""

    name: str
    serial: str
    room: str
    timezone: str
    state_dir: Path
    run_dir: Path
    secrets_dir: Path
    media_roots: tuple[Path, ...]
    trust_root: Path
    postgres: Postgres
    redis_socket: Path
    console: Listener
    api: Listener
    engine: EngineSite
    expected_gpus: int
    webhooks: tuple[Destination, ...]
    """Empty, as without the table [webhooks]: nobody is told anything."""
    directory: site_directory.Directory | None
    """None, as without the table [directory]: everybody who signs in is known here alone."""
    oidc: site_oidc.Provider | None
    """None, as without the table [oidc]: nobody is sent to an identity provider."""
    alert_channels: tuple[Channel, ...] = ()
    """Empty, as without [[alerts.channel]]: alerts are on their page and nowhere else."""
    metrics: Scrape | None = None
    """None, as without the table [metrics]: nothing listens for Prometheus."""

    @property
    def releases_dir(self) -> Path:
        return self.state_dir / "releases"

    @property
    def quarantine_dir(self) -> Path:
        return self.state_dir / "quarantine"

    @property
    def slots_dir(self) -> Path:
        return self.state_dir / "slots"

    def engine_socket(self, slot: str) -> Path:
        if slot not in SLOTS:
            raise SiteError(f"there is no engine slot {slot!r}: slots are {', '.join(SLOTS)}")
        return self.run_dir / f"engine-{slot}" / "engine.sock"

    def secret(self, name: str) -> bytes:
        """Read one secret; refuse it when others could have read it or when its size is wrong."""
        if name not in SECRET_SIZES and name not in GIVEN_SECRETS:
            raise SiteError(f"there is no secret named {name!r}")
        path = self.secrets_dir / name
        maker = "write it there, mode 0600" if name in GIVEN_SECRETS else "site_keys makes it"
        try:
            value = private_file.read(path, most=SECRET_TEXT_LIMIT)
        except private_file.PrivateFileError as error:
            raise SiteError(f"secret {name}: {error}; {maker}") from None
        _check_secret_size(name, len(value))
        return value


def _is_address(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _check_secret_size(name: str, size: int) -> None:
    expected = SECRET_SIZES.get(name)
    if expected is not None and size != expected:
        raise SiteError(f"secret {name}: {size} bytes, must be exactly {expected}")
    if not 0 < size <= SECRET_TEXT_LIMIT:
        raise SiteError(f"secret {name}: {size} bytes, must be between 1 and {SECRET_TEXT_LIMIT}")


def read(path: Path) -> Site:
    """Read the site file; raise SiteError with the key and the fix when anything is odd."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SiteError(f"Error reading the site file {path}: {error.strerror}; set {ENVIRONMENT_KEY}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SiteError(f"{path}: not readable as TOML: {error}") from None
    tables = {
        name: Table(path, document, name)
        for name in ("site", "paths", "postgres", "redis", "console", "api", "engine", "gpus")
    }
    # Tables that may be missing: without them this machine opens no connection to anybody.
    try:
        told = site_channels.channels(document.pop("alerts", {}))
        asked = site_channels.scrape(document.pop("metrics")) if "metrics" in document else None
    except ChannelError as error:
        raise SiteError(f"{path}: {error}") from None
    tables |= {name: Table(path, document, name) for name in OPTIONAL if name in document}
    if document:
        raise SiteError(f"{path}: {min(document)} is not a known table; remove it")
    site = replace(_site(path, tables), alert_channels=told, metrics=asked)
    for table in tables.values():
        table.close()
    _check_sockets(path, site)
    return site


def _site(path: Path, tables: dict[str, Table]) -> Site:
    site, paths = tables["site"], tables["paths"]
    return Site(
        name=site.text("name"),
        serial=site.text("serial"),
        room=site.text("room"),
        timezone=_timezone(path, site.text("timezone")),
        state_dir=paths.path("state"),
        run_dir=paths.path("run"),
        secrets_dir=paths.path("secrets"),
        media_roots=paths.paths("media"),
        trust_root=paths.path("trust_root"),
        postgres=_postgres(tables["postgres"]),
        redis_socket=tables["redis"].path("socket"),
        console=_listener(tables["console"]),
        api=_listener(tables["api"]),
        engine=_engine(tables["engine"]),
        expected_gpus=tables["gpus"].number("expected", 0, 64),
        webhooks=_destinations(path, tables["webhooks"].texts("allowed")) if "webhooks" in tables else (),
        directory=site_directory.read(tables["directory"]) if "directory" in tables else None,
        oidc=site_oidc.read(tables["oidc"]) if "oidc" in tables else None,
    )


def _destinations(path: Path, texts: tuple[str, ...]) -> tuple[Destination, ...]:
    found = []
    for text in texts:
        network, _, port = text.rpartition(":")
        try:
            destination = Destination(ip_network(network), int(port))
        except ValueError:
            destination = None
        if destination is None or not 0 < destination.port < 65_536:
            raise SiteError(f"{path}: webhooks.allowed holds {text!r}; write a network and a port: 10.1.0.0/16:8443")
        if not destination.network.is_private:
            raise SiteError(
                f"{path}: webhooks.allowed holds {text!r}, which is not a private network; nothing leaves here"
            )
        found.append(destination)
    return tuple(found)


def _postgres(table: Table) -> Postgres:
    return Postgres(
        socket_dir=table.path("socket_dir"),
        port=table.number("port", 1, 65535),
        database=table.identifier("database"),
        owner_role=table.identifier("owner_role"),
        app_role=table.identifier("app_role"),
        sealer_role=table.identifier("sealer_role"),
    )


def _listener(table: Table) -> Listener:
    return Listener(
        host=table.text("host"),
        port=table.number("port", 1, 65535),
        tls=table.flag("tls"),
        allowed_hosts=table.texts("allowed_hosts"),
        workers=table.number("workers", 1, 64),
    )


def _engine(table: Table) -> EngineSite:
    return EngineSite(
        python=table.path("python"),
        device=table.choice("device", ("cpu", "cuda")),
        start_timeout_s=table.number("start_timeout_s", 10, 3600),
        kv_cache_gib=table.number("kv_cache_gib", 1, 4096),
        max_model_len=table.number("max_model_len", 128, 1_048_576),
        max_num_seqs=table.number("max_num_seqs", 1, 4096),
    )


def _timezone(path: Path, name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise SiteError(f"{path}: site.timezone is {name!r}; write a zone name such as America/Chicago") from None
    return name


def _check_sockets(path: Path, site: Site) -> None:
    """A unix socket path over the kernel's limit fails much later, in another process, with a riddle."""
    sockets = [site.redis_socket, site.postgres.socket_dir / f".s.PGSQL.{site.postgres.port}"]
    sockets += [site.engine_socket(slot) for slot in SLOTS]
    for socket in sockets:
        check_socket_path(socket, where=str(path))


def check_socket_path(socket: Path, *, where: str) -> None:
    size = len(os.fsencode(socket))
    if size > SOCKET_PATH_LIMIT:
        raise SiteError(
            f"{where}: {socket} is {size} bytes; a socket path has at most {SOCKET_PATH_LIMIT}: use a shorter directory"
        )


@lru_cache(maxsize=4)
def _read_once(path: Path) -> Site:
    return read(path)


def current() -> Site:
    """The site this process belongs to. Read once: a changed file needs a restart, on purpose."""
    return _read_once(Path(os.environ.get(ENVIRONMENT_KEY) or DEFAULT_PATH))
