"""What every answer carries, and what no template may: other hosts, inline script or style."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from django.test import Client

import console
from console.middleware import POLICY
from tests.console.conftest import Enter
from tests.console.door import text
from tests.console.sitemap import addresses

HOME = Path(console.__file__).parent
TEMPLATES = sorted(HOME.rglob("templates/**/*.html"))
STATIC = HOME / "static" / "console"
OTHER_HOST = re.compile(r"""(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}|@import|url\(""", re.IGNORECASE)
INLINE = re.compile(
    r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=|javascript:|hx-on|hx-vals=.js:|<base\b|<iframe|<object|<embed",
    re.IGNORECASE,
)


@pytest.mark.django_db
def test_every_address_answers_with_the_whole_set_of_headers() -> None:
    browser = Client()
    for path in [address.path for address in addresses()] + ["/no-such-page"]:
        response = browser.get(path)
        assert response["Content-Security-Policy"] == POLICY, path
        assert response["X-Content-Type-Options"] == "nosniff", path
        assert response["Referrer-Policy"] == "same-origin", path
        assert response["X-Frame-Options"] == "DENY", path
        assert response["Cache-Control"] == "no-store", path
        assert re.fullmatch(r"[0-9a-f]{32}", response["X-Request-Id"]), path


def test_the_policy_allows_only_our_own_files_and_nothing_inline() -> None:
    directives = dict(part.split(" ", 1) for part in POLICY.split("; "))
    assert directives["default-src"] == "'none'"
    assert set(directives.values()) == {"'none'", "'self'"}


@pytest.mark.django_db
def test_a_request_id_of_the_callers_own_is_not_taken() -> None:
    response = Client().get("/status", headers={"X-Request-Id": "forged"})
    assert response["X-Request-Id"] != "forged"


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: str(path.relative_to(HOME)))
def test_a_template_says_what_it_needs_and_names_no_other_host_and_runs_nothing_inline(template: Path) -> None:
    source = template.read_text(encoding="utf-8")
    assert source.startswith("{#"), "it does not open with its context"
    assert "ontext" in source[: source.index("#}")], "it does not open with its context"
    assert not OTHER_HOST.findall(source.replace("https://www.w3.org", ""))
    assert not INLINE.findall(source)
    assert "|safe" not in source
    assert "autoescape off" not in source


def test_the_patterns_above_can_fail() -> None:
    assert OTHER_HOST.search('<link href="//fonts.example.com/a.css">')
    for planted in ('<p style="a">', "<script>1</script>", '<a onclick="x">', '<a href="javascript:x">'):
        assert INLINE.search(planted), planted
    assert not INLINE.search('<script src="/static/console/console.js" defer></script>')


def test_our_own_files_name_no_other_host() -> None:
    for name in ("console.css", "console.js"):
        assert not OTHER_HOST.findall((STATIC / name).read_text(encoding="utf-8")), name


def test_vendored_files_are_the_ones_that_were_read() -> None:
    lines = [line.split() for line in (STATIC / "HASHES").read_text(encoding="ascii").splitlines()]
    listed = {name: digest for digest, name in lines}
    vendored = {path.name for path in STATIC.glob("*.min.js")}
    assert set(listed) == vendored
    for name, digest in listed.items():
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == digest, name


@pytest.mark.django_db
def test_refusal_pages_carry_code_and_request_id_and_no_detail(door: Enter) -> None:
    bob = door("bob")
    missing = bob.get("/releases/" + "b" * 64)
    assert missing.status_code == 404
    assert "not_found" in text(missing)
    assert missing["X-Request-Id"] in text(missing)
    assert text(bob.get("/no-such-page")).count("There is no such page") == text(missing).count("There is no such page")


@pytest.mark.django_db
def test_a_page_that_breaks_says_so_in_our_words_without_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("a secret detail")

    monkeypatch.setattr("console.pages.status.answers", broken)
    response = Client(raise_request_exception=False).get("/status")
    assert response.status_code == 500
    assert "server_error" in text(response)
    assert "secret detail" not in text(response)
    assert response["Content-Security-Policy"] == POLICY


@pytest.mark.django_db
def test_an_odd_host_is_refused() -> None:
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost/../x"):
        response = Client(raise_request_exception=False).get("/status", headers={"Host": host})
        assert response.status_code == 400, host
