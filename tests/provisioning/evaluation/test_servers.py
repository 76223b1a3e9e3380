"""The evaluation's servers are real ones, private, and let nobody in as a superuser."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from pathlib import Path

import psycopg
import pytest

from provisioning import site_config
from provisioning.evaluation import servers, site_file


@pytest.fixture
def server(tmp_path: Path) -> servers.Postgres:
    layout = site_file.Layout(tmp_path / "s")
    site = site_file.write(layout)
    return servers.Postgres(layout.postgres, site.postgres, layout.logs / "postgres.log")


def test_the_three_roles_connect_and_none_is_a_superuser(postgres_server: servers.Postgres) -> None:
    site = postgres_server.site
    for role in (site.owner_role, site.app_role, site.sealer_role):
        with psycopg.connect(site.conninfo(role)) as connection:
            row = connection.execute(
                "SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user"
            ).fetchone()
            assert row == (False, False)


def test_the_superuser_has_no_way_in(postgres_server: servers.Postgres) -> None:
    info = f"host='{postgres_server.site.socket_dir}' dbname=postgres user={servers.SUPERUSER}"
    with pytest.raises(psycopg.OperationalError, match=r"[Pp]eer authentication failed"):
        psycopg.connect(info)


def test_fsync_is_on_and_no_port_is_open(postgres_server: servers.Postgres) -> None:
    with psycopg.connect(postgres_server.site.conninfo(postgres_server.site.app_role)) as connection:
        for name, value in {
            "fsync": "on",
            "full_page_writes": "on",
            "synchronous_commit": "on",
            "listen_addresses": "",
        }.items():
            assert connection.execute(f"SHOW {name}").fetchone() == (value,), name


def test_what_was_committed_is_there_after_a_kill(server: servers.Postgres) -> None:
    process = server.start()
    with psycopg.connect(server.site.conninfo(server.site.owner_role)) as connection:
        connection.execute("CREATE TABLE kept (n integer)")
        connection.execute("INSERT INTO kept VALUES (7)")
    process.send_signal(signal.SIGQUIT)  # immediate shutdown: as after a crash, without orphaned children
    process.wait(10)
    server.start()
    try:
        with psycopg.connect(server.site.conninfo(server.site.owner_role)) as connection:
            assert connection.execute("SELECT n FROM kept").fetchone() == (7,)
    finally:
        server.stop()


def test_it_runs_as_root_below_a_directory_only_root_may_enter(server: servers.Postgres) -> None:
    if os.geteuid() != 0:
        return  # then it simply runs as the user we are; nothing to show
    server.directory.parent.chmod(0o700)
    try:
        hidden = servers.Postgres(server.directory, server.site, server.log)
        assert hidden.identity.namespace
        hidden.start()
        hidden.stop()
    finally:
        server.directory.parent.chmod(0o755)


def test_a_server_that_cannot_start_says_why(server: servers.Postgres) -> None:
    server.initialize()
    (server.data / "postgresql.conf").write_text("no_such_setting = 1\n")
    with pytest.raises(servers.ServersError, match="no_such_setting"):
        server.start()


def say(redis: servers.Redis, command: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(redis.socket))
        connection.sendall(command + b"\r\n")
        return connection.recv(100)


def test_redis_answers_on_its_socket_only_and_keeps_nothing(tmp_path: Path) -> None:
    redis = servers.Redis(tmp_path / "redis", tmp_path / "redis.sock", tmp_path / "redis.log")
    redis.start()
    assert say(redis, b"SET waiting 1") == b"+OK\r\n"
    assert say(redis, b"CONFIG GET port").endswith(b"\r\n0\r\n")
    redis.stop()
    assert not redis.ready()
    redis.start()
    try:
        assert say(redis, b"GET waiting") == b"$-1\r\n"
    finally:
        redis.stop()


def test_a_socket_path_over_the_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(site_config.SiteError, match="at most 107"):
        servers.Redis(tmp_path / "redis", tmp_path / ("x" * 90) / "redis.sock", tmp_path / "redis.log")


def test_without_any_postgresql_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert shutil.which("postgres", path=str(servers.find_postgres()))
    monkeypatch.setattr(servers, "SYSTEM_POSTGRES", tmp_path)
    monkeypatch.setattr(servers, "_site_packages", lambda: tmp_path)
    with pytest.raises(servers.ServersError, match="install Debian's postgresql"):
        servers.find_postgres()
