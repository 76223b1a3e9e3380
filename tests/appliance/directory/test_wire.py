"""What is said to the directory, and to whom: nothing in the clear, nothing to another host, nothing without an answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from appliance.accounts import directory
from appliance.accounts.errors import DirectoryUnavailableError
from provisioning.site_directory import Directory
from tests.simulators.certificates import Authority
from tests.simulators.directory import PEOPLE, SERVICE_SECRET, Slapd, free_port

PASSWORD = "hana-has-a-long-password"
NO_SUCH_OPERATION = bytes.fromhex(
    "300c02010178070a010204000400"
)  # the answer to a first extended request: protocolError


@pytest.fixture
def hana(slapd: Slapd) -> Iterator[str]:
    dn = slapd.person("hana", "isoward-viewers", "staff", password=PASSWORD, title="Hana Sato")
    yield dn
    slapd.remove(dn)


def ask(site: Directory, username: str = "hana", password: str = PASSWORD, secret: str = SERVICE_SECRET) -> object:
    return directory.ask(site, secret=secret, username=username, password=password)


@contextmanager
def listener(answer: bytes = b"") -> Iterator[tuple[int, list[bytes]]]:
    """A port that keeps whatever it is told, answers the first message, and says nothing more."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        over = threading.Event()

        def listen() -> None:
            open_: list[socket.socket] = []
            while not over.is_set():
                try:
                    connection, _ = server.accept()
                except TimeoutError:
                    continue
                open_.append(connection)
                connection.settimeout(5)
                try:
                    heard.append(connection.recv(65536))
                    if answer:
                        connection.sendall(answer)
                        heard.append(connection.recv(65536))
                except OSError:
                    pass
            for connection in open_:
                connection.close()

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield server.getsockname()[1], heard
        finally:
            over.set()
            thread.join(20)


@pytest.mark.parametrize("secure", [False, True], ids=["starttls", "ldaps"])
def test_the_right_password_brings_the_entry_and_its_groups_and_a_wrong_one_nothing(
    slapd: Slapd, hana: str, secure: bool
) -> None:
    site = slapd.secure_site if secure else slapd.site
    entry = ask(site)
    assert isinstance(entry, directory.Entry)
    assert (entry.display_name, entry.disabled) == ("Hana Sato", False)
    assert directory.spelled("CN=isoward-viewers , OU=groups,dc=hospital,dc=test") in entry.groups
    assert len(entry.groups) == 2
    assert ask(site, password="wrong") is None
    assert ask(site, username="nobody-here") is None


def test_an_empty_password_is_refused_before_a_server_could_take_it_for_nobody(slapd: Slapd, hana: str) -> None:
    with listener() as (port, heard):
        assert ask(replace(slapd.site, port=port), password="") is None
        assert ask(replace(slapd.site, port=port), password="\x00") is None
    assert heard == []


@pytest.mark.parametrize(
    "name", ["*", "h*", "hana)(uid=*", "*)(objectClass=*", "hana\x00", "hana)(|(uid=a", "\\2a", "(hana)"]
)
def test_a_name_that_is_a_filter_finds_nobody(slapd: Slapd, hana: str, name: str) -> None:
    assert ask(slapd.site, username=name) is None
    assert ask(slapd.site) is not None


def test_a_server_that_offers_no_tls_hears_no_password_and_no_name(slapd: Slapd, hana: str) -> None:
    with listener(NO_SUCH_OPERATION) as (port, heard), pytest.raises(DirectoryUnavailableError):
        ask(replace(slapd.site, port=port))
    said = b"".join(heard)
    assert b"1.3.6.1.4.1.1466.20037" in said  # STARTTLS was asked for, and nothing else
    assert not any(word in said for word in (b"hana", b"isoward", SERVICE_SECRET.encode(), PASSWORD.encode()))


def test_a_certificate_of_another_authority_of_another_name_or_past_its_end_is_no_answer(
    slapd: Slapd, hana: str, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other", name="somebody else")
    with pytest.raises(DirectoryUnavailableError):
        ask(replace(slapd.site, ca_file=other.file))
    with pytest.raises(DirectoryUnavailableError):
        ask(replace(slapd.site, host="127.0.0.2"))  # the same server, under a name its certificate does not have
    with pytest.raises(DirectoryUnavailableError):
        ask(replace(slapd.secure_site, ca_file=tmp_path / "absent.pem"))
    assert ask(slapd.site) is not None


def test_an_expired_certificate_is_no_answer(tmp_path: Path) -> None:
    expired = Slapd(tmp_path / "expired")
    expired.authority.sign("127.0.0.1", "localhost", expired=True)
    expired.start()
    try:
        with pytest.raises(DirectoryUnavailableError):
            ask(expired.site)
    finally:
        expired.stop()


def test_ldaps_to_a_server_that_speaks_in_the_clear_says_nothing_readable(slapd: Slapd) -> None:
    with listener(NO_SUCH_OPERATION) as (port, heard), pytest.raises(DirectoryUnavailableError):
        ask(replace(slapd.secure_site, port=port))
    assert not any(word in b"".join(heard) for word in (b"isoward", SERVICE_SECRET.encode()))


@pytest.mark.parametrize("secure", [False, True], ids=["starttls", "ldaps"])
def test_a_server_that_never_answers_is_given_up_after_the_sites_time(slapd: Slapd, secure: bool) -> None:
    with listener() as (port, _):
        began = time.monotonic()
        site = slapd.secure_site if secure else slapd.site
        with pytest.raises(DirectoryUnavailableError):
            ask(replace(site, port=port, timeout_s=1))
        assert time.monotonic() - began < 4


def test_a_directory_that_is_away_or_does_not_know_us_is_no_answer(slapd: Slapd, hana: str) -> None:
    with pytest.raises(DirectoryUnavailableError):
        ask(replace(slapd.site, port=free_port()))
    with pytest.raises(DirectoryUnavailableError):
        ask(slapd.site, secret="not our password")


def test_a_referral_is_not_followed_whoever_it_names(slapd: Slapd, hana: str) -> None:
    with listener() as (port, heard):
        dn = f"cn=elsewhere,{PEOPLE}"
        slapd.add(dn, ["referral", "extensibleObject"], cn="elsewhere", ref=f"ldap://127.0.0.1:{port}/{PEOPLE}")
        try:
            assert ask(slapd.site) is not None
            with pytest.raises(DirectoryUnavailableError):  # the base itself lies elsewhere: no answer
                ask(replace(slapd.site, user_base=f"ou=x,{dn}"))
        finally:
            slapd.remove_referral(dn)
    assert heard == []


def test_two_entries_under_one_name_are_nobody(slapd: Slapd, hana: str) -> None:
    slapd.add(f"ou=more,{PEOPLE}", ["organizationalUnit"], ou="more")
    twin = f"uid=hana,ou=more,{PEOPLE}"
    slapd.add(twin, ["inetOrgPerson"], uid="hana", cn="Hana", sn="Hana", userPassword=PASSWORD)
    try:
        assert ask(slapd.site) is None
    finally:
        slapd.remove(twin)
        slapd.remove(f"ou=more,{PEOPLE}")
    assert ask(slapd.site) is not None


def test_a_name_in_another_attribute_is_not_the_persons_name(slapd: Slapd, hana: str) -> None:
    loose = replace(slapd.site, user_filter="(|(uid={name})(sn={name}))".replace("(uid={name})", "(uid=hana)"))
    assert ask(loose, username="somebody-else") is None
    assert ask(loose) is not None
