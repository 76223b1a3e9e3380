"""The site file refuses what is missing, odd or unknown, and says which key and what to write."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from provisioning import site_config, site_keys
from provisioning.evaluation import site_file


@pytest.fixture
def site_toml(tmp_path: Path) -> Path:
    layout = site_file.Layout(tmp_path / "s")
    site_file.write(layout)
    return layout.site_file


def test_it_reads_what_the_evaluation_writes(site_toml: Path) -> None:
    site = site_config.read(site_toml)
    assert site.console.url == "http://127.0.0.1:8800"
    assert site.releases_dir == site.state_dir / "releases"
    assert site.engine_socket("a") == site.run_dir / "engine-a" / "engine.sock"
    assert "user=isoward_app" in site.postgres.conninfo("isoward_app")


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('room = "on this desk"\n', "", "site.room is missing"),
        ('timezone = "UTC"', 'timezone = "Mars/Olympus"', "site.timezone"),
        ("workers = 1", "workers = true", "console.workers"),
        ("workers = 1", "workers = 0", "console.workers is 0"),
        ('device = "cpu"', 'device = "abacus"', "write one of: cpu, cuda"),
        ("expected = 0", "expected = 0\ndebug = true", "gpus.debug is not a known key"),
        ("[gpus]", "[extra]\nx = 1\n[gpus]", "extra is not a known table"),
        ('database = "isoward"', 'database = "iso ward"', "postgres.database"),
        ('socket = "/', 'socket = "relative/', "redis.socket must be an absolute path"),
        ("[redis]", "[redis", "not readable as TOML"),
        ("[gpus]", '[webhooks]\nallowed = ["8.8.8.0/24:443"]\n[gpus]', "not a private network"),
        ("[gpus]", '[webhooks]\nallowed = ["app.lan:443"]\n[gpus]', "write a network and a port"),
        ("[gpus]", '[webhooks]\nallowed = ["10.0.0.0/8:0"]\n[gpus]', "write a network and a port"),
        ("[gpus]", "[webhooks]\n[gpus]", "webhooks.allowed is missing"),
        ("[gpus]", "[directory]\n[gpus]", "directory.host is missing"),
    ],
)
def test_it_refuses_an_odd_file_and_names_the_key(site_toml: Path, old: str, new: str, named: str) -> None:
    text = site_toml.read_text()
    assert old in text
    site_toml.write_text(text.replace(old, new, 1))
    with pytest.raises(site_config.SiteError) as refusal:
        site_config.read(site_toml)
    assert named in str(refusal.value)
    assert str(site_toml) in str(refusal.value)


def test_webhooks_are_off_until_the_site_names_where_they_may_go(site_toml: Path) -> None:
    assert site_config.read(site_toml).webhooks == ()
    site_toml.write_text(site_toml.read_text() + '\n[webhooks]\nallowed = ["10.1.0.0/16:8443", "fd00::/8:443"]\n')
    first, second = site_config.read(site_toml).webhooks
    assert (str(first.network), first.port, str(second.network), second.port) == ("10.1.0.0/16", 8443, "fd00::/8", 443)


DIRECTORY = """
[directory]
host = "ad.hospital.test"
port = 389
tls = "starttls"
ca_file = "/etc/appliance/directory-ca.pem"
timeout_s = 5
bind_dn = "cn=isoward,ou=services,dc=hospital,dc=test"
user_base = "ou=people,dc=hospital,dc=test"
user_filter = "(&(objectClass=user)(sAMAccountName={name}))"
disabled_filter = "(userAccountControl:1.2.840.113556.1.4.803:=2)"
name_attribute = "sAMAccountName"
display_attribute = "displayName"
id_attribute = "objectGUID"
group_base = "ou=groups,dc=hospital,dc=test"
group_filter = "(member:1.2.840.113556.1.4.1941:={dn})"
[directory.roles]
viewer = ["cn=isoward-viewers,ou=groups,dc=hospital,dc=test"]
"""


def test_without_a_directory_everybody_is_known_here_alone_and_with_one_its_groups_are_read(site_toml: Path) -> None:
    assert site_config.read(site_toml).directory is None
    site_toml.write_text(site_toml.read_text() + DIRECTORY)
    directory = site_config.read(site_toml).directory
    assert directory is not None
    assert (directory.host, directory.port, directory.tls, directory.timeout_s) == (
        "ad.hospital.test",
        389,
        "starttls",
        5,
    )
    assert directory.roles == {"viewer": ("cn=isoward-viewers,ou=groups,dc=hospital,dc=test",)}


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('tls = "starttls"', 'tls = "none"', "directory.tls is 'none'; write one of: starttls, ldaps"),
        ('tls = "starttls"\n', "", "directory.tls is missing"),
        ('ca_file = "/etc/', 'ca_file = "etc/', "directory.ca_file must be an absolute path"),
        ("timeout_s = 5", "timeout_s = 60", "directory.timeout_s is 60"),
        ("{name}", "x", "directory.user_filter"),
        ("{name}))", "{name})(cn={name}))", "directory.user_filter"),
        ("{dn}", "{person}", "directory.group_filter"),
        ("803:=2)", "803:={name})", "directory.disabled_filter"),
        ('"(member', '"member', "directory.group_filter"),
        ("viewer = [", "viewer = 1 #", "directory.roles.viewer must be a list"),
        ('viewer = ["cn=isoward-viewers,ou=groups,dc=hospital,dc=test"]', "viewer = []", "directory.roles.viewer"),
        ("timeout_s = 5", "timeout_s = 5\nverify = false", "directory.verify is not a known key"),
    ],
)
def test_an_odd_directory_is_refused_and_there_is_no_key_that_turns_its_tls_off(
    site_toml: Path, old: str, new: str, named: str
) -> None:
    assert old in DIRECTORY
    site_toml.write_text(site_toml.read_text() + DIRECTORY.replace(old, new, 1))
    with pytest.raises(site_config.SiteError) as refusal:
        site_config.read(site_toml)
    assert named in str(refusal.value)


OIDC = """
[oidc]
issuer = "https://idp.hospital.test/realm"
authorization_endpoint = "https://idp.hospital.test/authorize"
token_endpoint = "https://idp.hospital.test/token"
jwks_uri = "https://idp.hospital.test/jwks"
ca_file = "/etc/appliance/idp-ca.pem"
timeout_s = 5
client_id = "isoward"
redirect_uri = "https://isoward.hospital.test/sign-in/provider/callback"
username_claim = "preferred_username"
name_claim = "name"
groups_claim = "groups"
[oidc.roles]
viewer = ["isoward-viewers"]
"""


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('jwks_uri = "https://', 'jwks_uri = "http://', "oidc.jwks_uri is 'http://"),
        ('token_endpoint = "https://', 'token_endpoint = "https://user@', "oidc.token_endpoint"),
        ("/authorize", "/authorize?a=b", "oidc.authorization_endpoint"),
        ("idp.hospital.test/token", "idp.hospital.test:x/token", "oidc.token_endpoint"),
        ('client_id = "isoward"\n', "", "oidc.client_id is missing"),
        ("timeout_s = 5", "timeout_s = 0", "oidc.timeout_s is 0"),
        ('viewer = ["isoward-viewers"]', "viewer = [1]", "oidc.roles.viewer"),
        ("timeout_s = 5", "timeout_s = 5\nverify = false", "oidc.verify is not a known key"),
    ],
)
def test_an_odd_identity_provider_is_refused_and_it_is_spoken_to_by_https_alone(
    site_toml: Path, old: str, new: str, named: str
) -> None:
    plain = site_toml.read_text()
    assert site_config.read(site_toml).oidc is None
    site_toml.write_text(plain + OIDC)
    provider = site_config.read(site_toml).oidc
    assert provider is not None
    assert provider.roles == {"viewer": ("isoward-viewers",)}
    assert old in OIDC
    site_toml.write_text(plain + OIDC.replace(old, new, 1))
    with pytest.raises(site_config.SiteError) as refusal:
        site_config.read(site_toml)
    assert named in str(refusal.value)


def test_the_directorys_secret_is_somebody_elses_and_a_missing_one_says_where_it_goes(site_toml: Path) -> None:
    site = site_config.read(site_toml)
    site_keys.create_missing(site)
    with pytest.raises(site_config.SiteError, match=r"directory-bind: cannot read .*write it there, mode 0600"):
        site.secret("directory-bind")


@pytest.mark.parametrize(
    ("hosts", "tls", "name", "origins"),
    [
        (("127.0.0.1", "localhost"), False, "localhost", ("http://localhost", "http://localhost:8800")),
        (("box.ward.lan", "box"), True, "box.ward.lan", ("https://box.ward.lan", "https://box.ward.lan:8800")),
        (("10.0.0.7", "[::1]", "::1", ".ward.lan", "*"), True, "", ()),
    ],
    ids=["evaluation", "names", "no-name"],
)
def test_security_keys_are_bound_to_the_first_name_and_to_no_address_or_pattern(
    hosts: tuple[str, ...], tls: bool, name: str, origins: tuple[str, ...]
) -> None:
    door = site_config.Listener(host="127.0.0.1", port=8800, tls=tls, allowed_hosts=hosts, workers=1)
    assert (door.name, door.origins) == (name, origins)


def test_a_missing_file_says_which_variable_to_set(tmp_path: Path) -> None:
    with pytest.raises(site_config.SiteError, match="ISOWARD_SITE"):
        site_config.read(tmp_path / "absent.toml")


def test_a_socket_path_over_the_kernels_limit_is_refused_before_anything_starts(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    with pytest.raises(site_config.SiteError, match="at most 107"):
        site_file.write(site_file.Layout(deep))


def test_no_other_role_gets_a_connection_string(site_toml: Path) -> None:
    with pytest.raises(site_config.SiteError, match="no role"):
        site_config.read(site_toml).postgres.conninfo("postgres")


class TestSecrets:
    @pytest.fixture
    def site(self, site_toml: Path) -> site_config.Site:
        site = site_config.read(site_toml)
        site_keys.create_missing(site)
        return site

    def test_they_are_made_once_and_never_replaced(self, site: site_config.Site) -> None:
        before = {name: site.secret(name) for name in site_config.SECRET_SIZES}
        assert site_keys.create_missing(site) == ()
        assert {name: site.secret(name) for name in site_config.SECRET_SIZES} == before
        assert len(set(before.values())) == len(before)

    def test_one_that_others_can_read_is_refused(self, site: site_config.Site) -> None:
        path = site.secrets_dir / "keyring-kek"
        assert len(site.secret("keyring-kek")) == 32
        path.chmod(0o640)
        with pytest.raises(site_config.SiteError, match="mode 0600"):
            site.secret("keyring-kek")

    def test_one_of_the_wrong_size_is_refused_and_never_quoted(self, site: site_config.Site) -> None:
        path = site.secrets_dir / "roster-key"
        path.write_bytes(b"too short, and secret")
        with pytest.raises(site_config.SiteError, match="must be exactly 32") as refusal:
            site.secret("roster-key")
        assert "secret, " not in str(refusal.value).replace("secret roster-key", "")
        assert "too short" not in str(refusal.value)

    def test_a_link_in_its_place_is_refused(self, site: site_config.Site) -> None:
        path = site.secrets_dir / "audit-hmac"
        other = path.with_name("elsewhere")
        path.rename(other)
        path.symlink_to(other)
        with pytest.raises(site_config.SiteError, match="audit-hmac"):
            site.secret("audit-hmac")

    def test_a_changed_secret_stops_key_making_instead_of_being_replaced(self, site: site_config.Site) -> None:
        (site.secrets_dir / "audit-hmac").write_bytes(b"")
        with pytest.raises(site_config.SiteError, match="audit-hmac"):
            site_keys.create_missing(site)

    def test_an_unknown_name_is_refused(self, site: site_config.Site) -> None:
        with pytest.raises(site_config.SiteError, match="no secret"):
            dataclasses.replace(site).secret("../site.toml")
