"""Nothing is set by naming it: a field no page asked for refuses the whole form, on every page there is."""

from __future__ import annotations

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from appliance.accounts import services as accounts
from appliance.accounts.models import Person
from appliance.accounts.permissions import GRANTS, Role
from tests.appliance import cast
from tests.console.conftest import Enter
from tests.console.door import SignedIn, enter, records, text
from tests.console.sitemap import addresses

pytestmark = pytest.mark.django_db

ODD = ("role", "is_superuser", "tenant", "approved_by", "phi_view", "is_active")


def somebody(role: Role) -> SignedIn:
    password = "somebody-has-a-long-password"
    accounts.create_person(
        actor="test", username="somebody", display_name="Some Body", password=password, roles=[role.value]
    )
    accounts.enrol_totp(actor="test", username="somebody", seed=cast.SEED, confirmed=True)
    return enter(cast.Member("somebody", password), Client(raise_request_exception=True))


@pytest.mark.parametrize("role", sorted(Role), ids=str)
def test_a_field_nobody_asked_for_refuses_the_form_on_every_page_this_role_may_post_to(role: Role) -> None:
    person = somebody(role)
    granted = {str(permission) for permission in GRANTS[role]} | {"own"}
    # Signing out is the one act that would end the rest of the walk if it went through.
    for address in addresses():
        refused = address.permission is not None and address.permission not in granted
        for body in ({name: "1"} for name in ODD):
            answer = person.browser.post(address.path, body)
            if answer.status_code == 405:
                continue
            if address.name in {"sign-in", "sign-in-code"}:
                assert answer.status_code == 400, address.name
                continue
            assert answer.status_code == (403 if refused else 400), f"{address.name} {body}"
            assert refused or "unknown_field" in text(answer), f"{address.name} {body}"
    assert person.get("/profile").status_code == 200


def test_a_body_that_is_no_form_is_refused_and_an_empty_post_is_not(door: Enter) -> None:
    erin = door("erin")
    body = json.dumps({"roles": ["approver"], "is_superuser": True})
    for kind in ("application/json", "text/plain"):
        assert erin.browser.post("/staff/erin", body, content_type=kind).status_code == 400
    assert erin.post("/staff/nobody/deactivate").status_code == 302


def test_a_field_beside_the_right_ones_changes_nothing_and_leaves_a_record_without_it(door: Enter) -> None:
    door("bob")
    erin = door("erin")
    answer = erin.post("/staff/bob", roles="viewer", is_superuser="Quimby")
    assert answer.status_code == 400
    assert Person.objects.get(username="bob").roles == ["approver"]
    record = records(actor="erin", kind="refusal")[0]
    assert (record.outcome, record.target) == ("unknown_field", "POST /staff/bob")
    assert "Quimby" not in record.detail
    assert "is_superuser" not in record.detail
    assert erin.post("/staff/bob", roles="viewer").status_code == 302
    assert Person.objects.get(username="bob").roles == ["viewer"]


def test_a_file_nobody_asked_for_refuses_the_form_too(door: Enter) -> None:
    door("bob")
    file = SimpleUploadedFile("roles.csv", b"x")
    assert door("erin").post("/staff/bob", roles=["viewer"], upload=file).status_code == 400
    assert Person.objects.get(username="bob").roles == ["approver"]
