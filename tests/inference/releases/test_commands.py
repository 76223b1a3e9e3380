"""The commands of Flow A: the same services as the console, the same refusals, and no secret in an argument."""

from __future__ import annotations

import io
import sys

import pytest
from django.core.management import CommandError, call_command, get_commands, load_command_class

from appliance.audit import selectors as audit
from inference.releases import selectors, services
from tests.appliance import cast
from tests.inference.releases.stage import BUNDLE, Stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def people(stage: Stage) -> dict[str, cast.Member]:
    return {name: cast.member(name) for name in ("alice", "bob", "carol", "dave")}


def said(name: str, *arguments: object, **options: object) -> str:
    out = io.StringIO()
    call_command(name, *arguments, stdout=out, stderr=io.StringIO(), **options)
    return out.getvalue().strip()


def approve(monkeypatch: pytest.MonkeyPatch, change_id: str, member: cast.Member, *, code: str = "") -> str:
    cast.forget_used_codes()
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{member.password}\n{code or member.code()}\n"))
    return said("approve_change", change_id, actor=member.username)


def test_from_a_medium_to_a_starting_deployment_and_back(
    stage: Stage, people: dict[str, cast.Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = said("import_bundle", str(stage.medium(1)), BUNDLE, actor="alice", here=True)
    assert selectors.release(first).release.version == 1
    change = said("propose_activation", first, actor="alice", reason="first")
    assert approve(monkeypatch, change, people["bob"]) == "1 of 2 approvals; the change is open"
    assert approve(monkeypatch, change, people["carol"]) == "2 of 2 approvals; the change is executed"
    assert "nothing serves" in said("releases")
    services.mark_serving(actor="test", deployment_id=selectors.deployments()[0].id, gate={})

    second = said("import_bundle", str(stage.medium(2)), BUNDLE, actor="alice", here=True)
    services.mark_serving(actor="test", deployment_id=stage.activate_with(people, second), gate={})
    assert f"serving: {BUNDLE} 2 in slot b" in said("releases")

    back = said("roll_back", actor="alice", reason="the second is worse")
    for name in ("bob", "carol"):
        approve(monkeypatch, back, people[name])
    newest = selectors.deployments()[0]
    assert (newest.version, newest.kind) == (1, "release.roll_back")


def test_media_are_listed_without_an_actor(stage: Stage) -> None:
    medium = stage.medium(3)
    assert said("import_bundle").startswith(f"{medium}  {BUNDLE}  version 3  ")


def test_a_refused_import_ends_with_its_code_and_in_the_log(stage: Stage, people: dict[str, cast.Member]) -> None:
    with pytest.raises(CommandError, match="media_unknown"):
        said("import_bundle", "/etc", BUNDLE, actor="alice")
    row = audit.search(audit.Query(kind="refusal"))[0]
    assert (row.actor, row.action, row.outcome) == ("alice", "import.refused", "media_unknown")
    with pytest.raises(CommandError, match="bundle_unknown"):
        said("import_bundle", str(stage.medium(1)), "another", actor="alice", here=True)


@pytest.mark.parametrize("actor", ["bob", "dave", "nobody"])
def test_only_those_who_may_import_and_propose_do(stage: Stage, people: dict[str, cast.Member], actor: str) -> None:
    digest = stage.receive(1)
    with pytest.raises(CommandError, match="nobody who may import"):
        said("import_bundle", str(stage.medium(2)), BUNDLE, actor=actor, here=True)
    with pytest.raises(CommandError, match="nobody who may propose"):
        said("propose_activation", digest, actor=actor, reason="because")
    with pytest.raises(CommandError, match="nobody who may propose"):
        said("roll_back", actor=actor, reason="because")


def test_an_approval_needs_both_factors_of_somebody_who_may(
    stage: Stage, people: dict[str, cast.Member], monkeypatch: pytest.MonkeyPatch
) -> None:
    change = said("propose_activation", stage.receive(1), actor="alice", reason="first")
    with pytest.raises(CommandError, match="sign_in_refused"):
        approve(monkeypatch, change, people["bob"], code="000000")
    wrong = cast.Member("bob", "not the password")
    with pytest.raises(CommandError, match="sign_in_refused"):
        approve(monkeypatch, change, wrong)
    with pytest.raises(CommandError):
        approve(monkeypatch, change, people["alice"])
    with pytest.raises(CommandError):
        approve(monkeypatch, change, people["dave"])
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    with pytest.raises(CommandError, match="two lines"):
        said("approve_change", change, actor="bob")
    refusals = audit.search(audit.Query(kind="refusal"))
    assert {row.actor for row in refusals} >= {"alice", "bob", "dave"}
    assert approve(monkeypatch, change, people["bob"]).startswith("1 of 2")


def test_no_secret_is_ever_an_argument() -> None:
    apps = get_commands()
    for name in ("approve_change", "propose_activation", "roll_back", "import_bundle"):
        parser = load_command_class(str(apps[name]), name).create_parser("manage.py", name)
        words = " ".join(option for action in parser._actions for option in action.option_strings)
        assert "password" not in words
        assert "code" not in words


def test_the_supervisor_process_takes_its_steps_and_ends_when_told(stage: Stage) -> None:
    folder = stage.site.slots_dir / "a"
    folder.mkdir(parents=True)
    (folder / "order.json").write_text("{}")
    call_command("supervise_engines", turns=2)
    assert not (folder / "order.json").exists()
