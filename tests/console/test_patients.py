"""Patients' text: a right beside the permission, held by nobody who runs the machine, and today asked for by no page."""

from __future__ import annotations

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory

from appliance.accounts import services as accounts
from appliance.accounts.models import Person
from appliance.accounts.permissions import Permission, Role
from appliance.keyring import services as keyring
from console import access
from inference.policy.ask import Ask
from inference.policy.catalog import Lane
from inference.policy.rules import Rights
from inference.queue import services as queue
from inference.queue.rules import Line
from tests.appliance import cast
from tests.console.conftest import Enter
from tests.console.door import enter, text
from tests.console.sitemap import addresses

pytestmark = pytest.mark.django_db

CANARY = "Quimby-4471"


def hand_in() -> None:
    """A file and a batch that hold a patient's text in every place that takes any."""
    rights = Rights(
        client="ward-7", key_id="iwk_00000000", tasks=frozenset({"progress_note"}), purposes=frozenset({"TREAT"}),
        lane=Lane.BATCH, phi=True,
    )  # fmt: skip
    source = queue.begin_file(rights=rights, name=f"{CANARY}.jsonl")
    queue.add_piece(ref=source, number=0, content=f'{{"plan": "{CANARY}"}}\n'.encode())
    queue.finish_file(actor="ward-7", rights=rights, ref=source, lines=1, request_id="r")
    ref = queue.accept_batch(actor="ward-7", rights=rights, input_file=source).ref
    ask = Ask(model="default", task="progress_note", purpose="TREAT", record={"plan": CANARY})
    queue.expand_batch(actor="reader", ref=ref, read=lambda *_: [Line(1, CANARY, ask)])


@pytest.mark.parametrize("role", sorted(Role), ids=str)
def test_no_page_prints_a_patients_text_or_opens_it_whatever_the_role(
    role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_in()
    password = "somebody-has-a-long-password"
    accounts.create_person(actor="test", username="some", display_name="S", password=password, roles=[role.value])
    accounts.enrol_totp(actor="test", username="some", seed=cast.SEED, confirmed=True)
    if role is Role.CLINICIAN_REVIEWER:
        accounts.set_phi_right(actor="grace", username="some", allowed=True)
    person = enter(cast.Member("some", password), Client())
    opened: list[bytes] = []
    real = keyring.open_

    def noted(sealed: bytes, *, aad: bytes) -> bytes:
        opened.append(aad)
        return real(sealed, aad=aad)

    monkeypatch.setattr(keyring, "open_", noted)
    for address in addresses():
        assert CANARY not in text(person.get(address.path)), address.name
    # The seed of a one-time code is sealed too; nothing of an app's work may be.
    assert [aad for aad in opened if not aad.startswith(b"totp:")] == []


def test_no_page_is_declared_to_show_patients_text_and_one_that_is_asks_for_the_right() -> None:
    # A page that comes to show patients' text is added here on purpose, with the reason it has to.
    assert [address.name for address in addresses() if getattr(address.view, "patients", False)] == []


def test_a_page_with_patients_text_opens_to_permission_and_right_together_and_to_neither_alone(door: Enter) -> None:
    @access.requires(Permission.CHANGE_VIEW, patients=True)
    def page(request: HttpRequest) -> HttpResponse:
        return HttpResponse("Jane Testpatient")

    def answer(username: str) -> int:
        request = RequestFactory().get("/page")
        request.user = Person.objects.get(username=username)
        request.user.is_verified = lambda: True  # type: ignore[attr-defined]  # set by the OTP middleware after both factors
        request.request_id = "r"  # type: ignore[attr-defined]  # set by the headers' middleware
        return page(request).status_code

    for name in ("alice", "erin"):
        cast.member(name)
    accounts.set_roles(actor="test", username="alice", roles=["clinician_reviewer"])
    assert answer("alice") == 403  # the permission alone
    accounts.set_phi_right(actor="grace", username="alice", allowed=True)
    assert answer("alice") == 200
    assert answer("erin") == 403  # the administrator has the permission, and can never have the right

    request = RequestFactory().get("/page")
    request.user = Person.objects.get(username="alice")
    request.user.is_verified = lambda: False  # type: ignore[attr-defined]  # the password alone
    assert page(request).status_code == 302


def test_a_privacy_officer_gives_and_takes_the_right_on_the_staff_page_and_an_administrator_cannot(door: Enter) -> None:
    for name in ("carol", "dave"):
        door(name)
    accounts.set_roles(actor="erin", username="carol", roles=["clinician_reviewer"])
    accounts.set_roles(actor="erin", username="dave", roles=["privacy_officer"])
    dave, erin = enter(cast.Member("dave", "dave-has-a-long-password"), Client()), door("erin")
    assert erin.post("/staff/carol/patients", allowed="yes").status_code == 403
    assert 'action="/staff/carol/patients"' not in text(erin.get("/staff"))
    page = text(dave.get("/staff"))
    assert 'action="/staff/carol/patients"' in page
    assert 'action="/staff/erin/patients"' not in page
    dave.post("/staff/carol/patients", allowed="yes")
    assert Person.objects.get(username="carol").may_see_patients
    refused = dave.browser.post("/staff/erin/patients", {"allowed": "yes"}, follow=True)
    assert "phi_right_refused" in text(refused)
    dave.post("/staff/carol/patients", allowed="no")
    assert not Person.objects.get(username="carol").may_see_patients
