"""Alerts by SNMP, against net-snmp's own receiver: what it logs, and each refusal beside it."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path

import pytest

from appliance.alerts import wire
from appliance.alerts.errors import DeliveryError
from provisioning.site_channels import Channel
from tests.appliance.alerts.test_wire import HOT, SECRET
from tests.waiting import until

AUTH, PRIV = "authentication-word", "privacy-word"
CONFIGURED = f"""
authCommunity log ward-community
createUser isoward SHA-256 {AUTH} AES {PRIV}
authUser log isoward priv
"""


@contextmanager
def receiver(folder: Path) -> Iterator[tuple[int, Path]]:
    """snmptrapd with one community and one user; it writes what it took to a file."""
    program = shutil.which("snmptrapd", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        pytest.skip("snmptrapd is not installed")
    (folder / "trapd.conf").write_text(CONFIGURED)
    log = folder / "traps.log"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [program, "-f", "-C", "-c", str(folder / "trapd.conf"), "-On", "-Lf", str(log), f"udp:127.0.0.1:{port}"]
    environment = {"SNMP_PERSISTENT_DIR": str(folder / "state"), "MIBS": "", "PATH": "/usr/sbin:/usr/bin:/bin"}
    with subprocess.Popen(command, env=environment) as process:
        try:
            until(lambda: log.exists() and "NET-SNMP version" in log.read_text(), 15, "the receiver listens")
            yield port, log
        finally:
            process.terminate()


def secret(folder: Path, words: str, mode: int = 0o600) -> Path:
    file = folder / "words"
    file.write_text(words)
    file.chmod(mode)
    return file


def channel(port: int, words: Path, *, user: str = "") -> Channel:
    return Channel("noc", "snmp", ip_address("127.0.0.1"), port, "info", None, "", user=user, secret=words)


def refused(to: Channel) -> str:
    with pytest.raises(DeliveryError) as refusal:
        wire.send(to, HOT, secret=SECRET)
    assert AUTH not in str(refusal.value)
    return refusal.value.code


@pytest.mark.parametrize(("words", "user"), [("ward-community\n", ""), (f"{AUTH}\n{PRIV}\n", "isoward")])
def test_the_receiver_has_and_confirms_what_was_sent(tmp_path: Path, words: str, user: str) -> None:
    with receiver(tmp_path) as (port, log):
        assert (
            wire.send(channel(port, secret(tmp_path, words), user=user), HOT, secret=SECRET)
            == "the receiver confirmed it"
        )
        until(lambda: "GPU is hot" in log.read_text(), 5, "it is in the receiver's log")
    text = log.read_text()
    for part in ("1.3.6.1.4.1.32473.1.0.1", '"opened"', '"critical"', '"gpu.temperature.GPU-1"', '"IW-0001"'):
        assert part in text


@pytest.mark.parametrize("words", [f"{AUTH}-not\n{PRIV}\n", f"{AUTH}\n{PRIV}-not\n"])
def test_with_another_word_nothing_is_confirmed_or_logged(tmp_path: Path, words: str) -> None:
    with receiver(tmp_path) as (port, log):
        assert refused(channel(port, secret(tmp_path, words), user="isoward")) in {"alert_refused", "alert_unreachable"}
        assert "GPU is hot" not in log.read_text()


def test_a_community_that_the_receiver_does_not_know_is_not_logged(tmp_path: Path) -> None:
    with receiver(tmp_path) as (port, log):
        to = channel(port, secret(tmp_path, "another\n"))
        with suppress(DeliveryError):
            wire.send(to, HOT, secret=SECRET)
        assert "GPU is hot" not in log.read_text()


@pytest.mark.parametrize(
    ("words", "mode", "user"),
    [("ward-community", 0o644, ""), ("", 0o600, ""), ("two words", 0o600, ""), ("short short", 0o600, "isoward")],
)
def test_a_secret_that_others_can_read_or_that_is_none_is_not_used(
    tmp_path: Path, words: str, mode: int, user: str
) -> None:
    assert refused(channel(9, secret(tmp_path, words, mode), user=user)) == "alert_secret"


def test_nobody_there_is_said_in_words(tmp_path: Path) -> None:
    assert refused(channel(9, secret(tmp_path, "ward-community"))) == "alert_unreachable"
