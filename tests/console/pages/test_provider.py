"""Sign-in by the house's identity provider: one good way through, and each way it can be wrong, refused with its reason."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client
from jwt.algorithms import HMACAlgorithm
from pytest_django.fixtures import Settings

from appliance.accounts import oidc, services
from appliance.accounts.errors import SignInRefusedError
from appliance.accounts.models import Person
from console.pages import provider as page
from provisioning.site_config import Site
from tests.appliance import cast
from tests.console.door import records, text
from tests.simulators.identity import MAKES, public_pem
from tests.simulators.provider import SECRET, IdentityProvider

pytestmark = pytest.mark.django_db

Change = Callable[[IdentityProvider], object]


@pytest.fixture
def idp(tmp_path: Path, site: Site, settings: Settings) -> Iterator[IdentityProvider]:
    path = site.secrets_dir / "oidc-client"
    path.touch(mode=0o600)
    path.write_text(SECRET + "\n")
    with IdentityProvider(tmp_path) as provider:
        settings.SITE = replace(site, oidc=provider.site)
        yield provider
    path.unlink()


def agree(idp: IdentityProvider, address: str) -> str:
    """The browser at the provider: where it is sent back to."""
    parts = urlsplit(address)
    connection = http.client.HTTPSConnection(
        "127.0.0.1", parts.port, context=ssl.create_default_context(cafile=str(idp.authority.file)), timeout=10
    )
    connection.request("GET", f"{parts.path}?{parts.query}")
    back = connection.getresponse().headers["Location"]
    connection.close()
    return back.removeprefix("http://testserver")


def come(
    idp: IdentityProvider, browser: Client | None = None, change: Callable[[str], str] = str
) -> tuple[Client, int]:
    """There and back; the way back may be changed by whoever stands in between."""
    browser = browser or Client()
    back = agree(idp, browser.get("/sign-in/provider")["Location"])
    return browser, browser.get(change(back)).status_code


def refused(idp: IdentityProvider, change: Callable[[str], str] = str) -> str:
    """The reason on record; nobody was signed in, and nobody is half-way either."""
    browser, status = come(idp, change=change)
    assert status == 403
    assert browser.get("/sign-in/code")["Location"].startswith("/sign-in")
    return records(action="person.sign_in_refused")[0].outcome


def test_the_provider_proves_hana_and_our_own_second_factor_lets_her_in(idp: IdentityProvider) -> None:
    assert "identity provider" in text(Client().get("/sign-in"))
    browser, status = come(idp)
    assert status == 200
    person = Person.objects.get(username="hana")
    assert (person.roles, person.display_name, person.has_usable_password()) == (["viewer"], "Hana Sato", False)
    member = cast.Member("hana", "")
    assert browser.get("/profile")["Location"].startswith("/sign-in")
    assert browser.post("/sign-in/code", {"code": member.code()}).status_code == 403
    services.enrol_totp(actor="test", username="hana", seed=cast.SEED, confirmed=True)
    assert browser.post("/sign-in/code", {"code": member.code()}).status_code == 302
    assert "Hana Sato" in text(browser.get("/profile"))
    assert '"identity provider"' in records(action="person.signed_in")[0].detail


@pytest.mark.parametrize("algorithm", ["ES256", "RS256"])
def test_both_algorithms_that_providers_use_are_taken(
    tmp_path: Path, idp: IdentityProvider, settings: Settings, algorithm: str
) -> None:
    with IdentityProvider(tmp_path / algorithm, algorithm=algorithm) as other:
        settings.SITE = replace(settings.SITE, oidc=other.site)
        assert come(other)[1] == 200


def hmac_with_the_public_key(idp: IdentityProvider) -> Callable[[str], str]:
    def forge(token: str) -> str:
        head = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": idp.signer.kid}).encode()).rstrip(b"=")
        message = head + b"." + token.split(".")[1].encode()
        # pyjwt itself refuses to take a public key for a secret; a forger does not ask it.
        mac = HMACAlgorithm(HMACAlgorithm.SHA256).sign(message, public_pem(idp.signer.key).encode())
        return (message + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()

    return forge


def unsigned(token: str) -> str:
    head = base64.urlsafe_b64encode(b'{"alg":"none","kid":"2026-11"}').rstrip(b"=").decode()
    return f"{head}.{token.split('.')[1]}."


def altered(token: str) -> str:
    head, body, signature = token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    claims["groups"] = ["Isoward Admins"]
    return f"{head}.{base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b'=').decode()}.{signature}"


def say(**changes: object) -> Change:
    return lambda idp: idp.changes.update(changes)


def answer(path: str, body: object, status: int = 200) -> Change:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda idp: idp.answers.update({path: (status, raw)})


def made(make: Callable[[str], str]) -> Change:
    return lambda idp: setattr(idp, "token", make)


def now(seconds: int) -> int:
    return int(time.time()) + seconds


WRONG: dict[str, tuple[Change, str]] = {
    "another issuer": (say(iss="https://idp.elsewhere.test"), "provider_invalidissuererror"),
    "no issuer": (say(iss=None), "provider_missingrequiredclaimerror"),
    "for another client": (say(aud="another-app"), "provider_invalidaudienceerror"),
    "for us and another, for nobody in particular": (say(aud=["isoward", "another-app"]), "provider_azp"),
    "for us and another, given to the other": (say(aud=["isoward", "x"], azp="x"), "provider_azp"),
    "another nonce": (say(nonce="another"), "provider_nonce"),
    "no nonce": (say(nonce=None), "provider_missingrequiredclaimerror"),
    "a nonce that is no text": (say(nonce=["x"]), "provider_nonce"),
    "over": (say(exp=now(-120)), "provider_expiredsignatureerror"),
    "without an end": (say(exp=None), "provider_missingrequiredclaimerror"),
    "from an hour ago": (say(iat=now(-3600)), "provider_old"),
    "from an hour ahead": (say(iat=now(3600)), "provider_immaturesignatureerror"),
    "nobody": (say(sub=None), "provider_missingrequiredclaimerror"),
    "a name that is no name of ours": (say(preferred_username="Hana Sato"), "provider_username"),
    "a name that is no text": (say(preferred_username=7), "provider_claims"),
    "groups that are one text": (say(groups="Isoward Admins"), "provider_claims"),
    "groups that are no texts": (say(groups=[1]), "provider_claims"),
    "unsigned": (made(unsigned), "provider_algorithm"),
    "signed with the public key": (lambda idp: setattr(idp, "token", hmac_with_the_public_key(idp)), "provider_algorithm"),
    "altered": (made(altered), "provider_invalidsignatureerror"),
    "no token": (made(lambda _: ""), "provider_decodeerror"),
    "signed with another key": (lambda idp: setattr(idp, "published", MAKES["ES256"]()), "provider_invalidsignatureerror"),
    "an unknown key": (answer("/jwks", {"keys": [{"kid": "another", "kty": "EC"}]}), "provider_key"),
    "no keys": (answer("/jwks", {"keys": []}), "provider_key"),
    "keys that are none": (answer("/jwks", {"keys": [{"kid": "2026-11", "kty": "EC"}]}), "provider_invalidkeyerror"),
    "a secret among the keys": (
        answer("/jwks", {"keys": [{"kid": "2026-11", "kty": "oct", "k": "eA"}]}), "provider_algorithm"
    ),
    "no JSON": (answer("/token", b"<html>"), "provider_not_json"),
    "a list": (answer("/token", []), "provider_not_json"),
    "an answer without an end": (answer("/token", b" " * 70_000), "provider_answered_200"),
    "an error": (answer("/token", {}, 500), "provider_answered_500"),
    "a redirect": (answer("/token", {}, 302), "provider_answered_302"),
    "denied": (lambda idp: idp.extra.update(error="access_denied"), "provider_denied"),
    "mixed up": (lambda idp: idp.extra.update(iss="https://idp.elsewhere.test"), "provider_issuer"),
    "no role": (lambda idp: idp.groups.clear(), "directory_no_role"),
    "two duties": (lambda idp: idp.groups.extend(["Isoward Admins", "isoward-auditors"]), "directory_role_conflict"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=str)
def test_what_is_wrong_is_refused_with_its_reason_and_what_is_right_comes_in(idp: IdentityProvider, wrong: str) -> None:
    assert come(idp)[1] == 200
    Person.objects.all().delete()
    change, reason = WRONG[wrong]
    change(idp)
    assert refused(idp) == reason
    assert not Person.objects.exists()
    assert "/elsewhere" not in idp.heard


def test_another_browsers_answer_signs_nobody_in(idp: IdentityProvider) -> None:
    hers, mine = Client(), Client()
    back = agree(idp, hers.get("/sign-in/provider")["Location"])
    assert mine.get(back).status_code == 403  # never sent away
    mine.get("/sign-in/provider")
    assert mine.get(back).status_code == 403  # sent away with another question
    assert [row.outcome for row in records(action="person.sign_in_refused")] == ["provider_state", "provider_not_asked"]
    assert hers.get(back).status_code == 200


def test_an_answer_counts_once(idp: IdentityProvider) -> None:
    browser = Client()
    back = agree(idp, browser.get("/sign-in/provider")["Location"])
    kept = browser.cookies[page.COOKIE].value
    assert browser.get(back).status_code == 200
    assert browser.get(back).status_code == 403
    browser.cookies[page.COOKIE] = kept
    assert browser.get(back).status_code == 403  # the code is used up, whoever kept the question
    assert records(action="person.sign_in_refused")[0].outcome == "provider_answered_400"


def test_the_code_of_another_question_is_refused_by_the_verifier(idp: IdentityProvider) -> None:
    thief = Client()
    stolen = parse_qs(urlsplit(agree(idp, Client().get("/sign-in/provider")["Location"])).query)["code"][0]
    back = agree(idp, thief.get("/sign-in/provider")["Location"])
    mine = parse_qs(urlsplit(back).query)["code"][0]
    assert thief.get(back.replace(mine, stolen)).status_code == 403
    assert records(action="person.sign_in_refused")[0].outcome == "provider_answered_400"


def test_the_question_is_good_for_five_minutes_and_cannot_be_written_by_hand(
    idp: IdentityProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refused(idp, change=lambda back: back.replace("state=", "state=x")) == "provider_state"
    forged = Client()
    forged.cookies[page.COOKIE] = json.dumps({"state": "x", "nonce": "x", "verifier": "x"})
    assert forged.get("/sign-in/provider/callback?state=x&code=x").status_code == 403
    monkeypatch.setattr(page, "GOOD_FOR_S", -1)
    assert refused(idp) == "provider_not_asked"


def test_a_provider_that_is_away_or_unproved_signs_nobody_in(
    idp: IdentityProvider, tmp_path: Path, settings: Settings
) -> None:
    other = IdentityProvider(tmp_path / "other").authority
    settings.SITE = replace(settings.SITE, oidc=replace(idp.site, ca_file=other.file))
    assert refused(idp) == "provider_unavailable"
    settings.SITE = replace(settings.SITE, oidc=replace(idp.site, token_endpoint="https://127.0.0.1:9/token"))
    assert refused(idp) == "provider_unavailable"
    settings.SITE = replace(settings.SITE, oidc=idp.site)
    (settings.SITE.secrets_dir / "oidc-client").chmod(0o644)
    assert refused(idp) == "provider_secret"


def test_without_a_provider_in_the_site_file_there_is_no_such_door() -> None:
    assert "identity provider" not in text(Client().get("/sign-in"))
    assert Client().get("/sign-in/provider").status_code == 404
    assert Client().get("/sign-in/provider/callback?code=x&state=x").status_code == 404


def test_a_local_person_is_not_taken_over_by_the_providers_namesake(idp: IdentityProvider) -> None:
    bob = cast.member("bob")
    idp.user["preferred_username"] = "bob"
    assert refused(idp) == "directory_identity_changed"
    assert Person.objects.get(username="bob").roles == ["approver"]
    services.check_password(actor="bob", password=bob.password)


def test_a_namesake_with_another_subject_is_refused_and_roles_follow_the_groups(idp: IdentityProvider) -> None:
    come(idp)
    idp.groups[:] = ["isoward-auditors"]
    assert come(idp)[1] == 200
    assert Person.objects.get(username="hana").roles == ["auditor"]
    idp.user["sub"] = "u-4712"
    assert refused(idp) == "directory_identity_changed"
    assert Person.objects.get(username="hana").roles == []


def test_the_providers_people_have_no_password_here_and_one_who_was_deactivated_stays_out(
    idp: IdentityProvider,
) -> None:
    come(idp)
    for password in ("", "x", "!"):
        with pytest.raises(SignInRefusedError):
            services.check_password(actor="hana", password=password)
    services.deactivate(actor="erin", username="hana")
    assert refused(idp) == "provider_not_active"


def test_every_question_is_new_and_its_verifier_stays_here(idp: IdentityProvider) -> None:
    one, other = oidc.ask(), oidc.ask()
    assert not {one.state, one.nonce, one.verifier} & {other.state, other.nonce, other.verifier}
    assert one.verifier not in oidc.address(idp.site, one)
    cookie = Client().get("/sign-in/provider").cookies[page.COOKIE]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"], cookie["max-age"]) == (
        True,
        "Lax",
        "/sign-in/provider",
        300,
    )
