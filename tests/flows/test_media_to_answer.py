"""Flow A on the whole box: from a medium to an answer, to the next version and back; and what must stop an engine.

Each act goes through the product's own commands, each engine is real vLLM. The tests stand in the order of a release's
life and each leaves the box serving, so that whoever comes next finds it well.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from provisioning.evaluation import request, stack
from provisioning.evaluation.supervisor import read_table
from tests.box import Box
from tests.simulators.evaluation_publisher import BUNDLE
from tests.waiting import until

pytestmark = pytest.mark.timeout(900)

START_S = 330  # past the box's own limit for a start, so that its reason is seen
DRAIN_S = 180
REFUSED_S = 60


def ask(box: Box) -> request.Answer:
    """One clinical task through the LAN API."""
    return request.ask(box.site.api, box.api_key)


def rows(box: Box, query: str, *parameters: Any) -> list[tuple[Any, ...]]:
    return box.sql(query, parameters)


def serving(box: Box) -> tuple[str, int, int, str]:
    """(digest, version, change, slot) of what serves."""
    found = rows(
        box,
        "SELECT r.digest, r.version, d.change_id, d.slot FROM releases_deployment d"
        " JOIN releases_release r ON r.id = d.release_id WHERE d.state = 'serving'",
    )
    assert len(found) == 1
    digest, version, change_id, slot = found[0]
    return str(digest), int(version), int(change_id), str(slot)


def deployment(box: Box, change_id: int) -> tuple[str, str, str]:
    """(state, code, message) of the deployment of a change."""
    found = rows(box, "SELECT state, code, message FROM releases_deployment WHERE change_id = %s", change_id)
    return (str(found[0][0]), str(found[0][1]), str(found[0][2])) if found else ("", "", "")


def approve(box: Box, change_id: int, *people: str) -> None:
    for name in people:
        box.manage(
            "approve_change", str(change_id), "--actor", name, stdin=f"{box.person(name).password}\n{box.code(name)}\n"
        )


def import_version(box: Box, version: int) -> str:
    medium = box.publisher.medium(version)
    return box.manage("import_bundle", str(medium), BUNDLE, "--actor", "alice").split()[-1]


def newest(box: Box) -> str:
    """A release newer than the one that serves; imported now where there is none."""
    version = serving(box)[1]
    found = rows(box, "SELECT digest FROM releases_release WHERE version > %s ORDER BY version DESC", version)
    return str(found[0][0]) if found else import_version(box, version + 1)


def propose(box: Box, digest: str, reason: str = "the next version") -> int:
    return int(box.manage("propose_activation", digest, "--actor", "alice", "--reason", reason))


def wait_for(box: Box, change_id: int, state: str, seconds: float) -> None:
    def there() -> bool:
        now = deployment(box, change_id)
        assert now[0] != "failed" or state == "failed", f"{now[1]}: {now[2]}"
        return now[0] == state

    until(there, seconds, f"the deployment of change {change_id} is {state}")


def restart_engine(box: Box) -> None:
    """End the serving engine's keeper, and with it the engine; the box starts both again."""
    name = f"keeper-{serving(box)[3]}"
    old = box.kill(name)
    box.wait_restarted(name, old)


def report(box: Box, slot: str) -> dict[str, Any]:
    path = box.site.slots_dir / slot / "report.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def degraded(box: Box) -> str:
    found = rows(box, "SELECT code FROM releases_deployment WHERE state = 'serving' AND degraded_since IS NOT NULL")
    return str(found[0][0]) if found else ""


def wait_well(box: Box) -> None:
    """The serving engine answers again."""

    def answers() -> bool:
        try:
            return bool(ask(box).text) and not degraded(box)
        except (request.RequestError, OSError):
            return False

    until(answers, 2 * START_S, "the box answers again")


def test_what_came_from_the_medium_answers_and_the_receipt_says_which_release_and_change(box: Box) -> None:
    answer = ask(box)
    digest, version, change_id, _ = serving(box)
    assert answer.text
    assert version == 1
    assert (answer.receipt["release_digest"], answer.receipt["change_id"]) == (digest, change_id)
    approvers = {name for (name,) in rows(box, "SELECT approver FROM changes_approval WHERE change_id = %s", change_id)}
    assert approvers == {"bob", "carol"}
    (gate,) = rows(box, "SELECT gate FROM releases_deployment WHERE change_id = %s", change_id)[0]
    assert gate["ok"] is True
    assert gate["cases"] > 0, "the release brings golden prompts, and the engine answered them before it served"
    assert f"serving: {BUNDLE} 1" in box.manage("releases")


def test_nobody_starts_a_release_alone(box: Box) -> None:
    digest = serving(box)[0]
    with pytest.raises(stack.CommandError, match="already_serving"):
        propose(box, digest)
    with pytest.raises(stack.CommandError, match="nobody who may propose"):
        box.manage("propose_activation", digest, "--actor", "bob", "--reason", "I could approve it as well")
    with pytest.raises(stack.CommandError, match="nobody who may import"):
        box.manage("import_bundle", str(box.publisher.media / "evaluation"), BUNDLE, "--actor", "dave")


def test_a_flipped_byte_on_the_medium_is_refused_with_its_reason(box: Box) -> None:
    medium = box.publisher.medium(2)
    flip(medium / "targets" / BUNDLE / "model.safetensors")
    with pytest.raises(stack.CommandError, match="digest_mismatch"):
        box.manage("import_bundle", str(medium), BUNDLE, "--actor", "alice")
    assert rows(box, "SELECT count(*) FROM releases_release") == [(1,)]
    assert not any((box.site.quarantine_dir).iterdir())


def test_the_second_version_starts_beside_the_first_and_takes_over_without_a_gap(box: Box) -> None:
    first = serving(box)
    digest = import_version(box, 2)
    change_id = propose(box, digest)
    approve(box, change_id, "bob")
    assert deployment(box, change_id) == ("", "", ""), "one approval starts nothing"
    approve(box, change_id, "carol")

    def moved(until_s: float) -> bool:
        state, code, message = deployment(box, change_id)
        assert state in {"starting", "serving"}, f"{code}: {message}"
        return state == "serving" or time.monotonic() > until_s

    answered = 0
    while deployment(box, change_id)[0] != "serving":
        assert ask(box).receipt["release_digest"] in {first[0], digest}
        answered += 1
        # A question every few seconds: the cores are needed to start the second engine.
        pause = time.monotonic() + 5
        until(lambda: moved(pause), 15, "the next question")  # noqa: B023 - called before the loop goes on
    assert answered > 0
    assert serving(box)[:3] == (digest, 2, change_id)
    assert serving(box)[3] != first[3]
    until(lambda: ask(box).receipt["release_digest"] == digest, 10, "answers come from the second version")
    wait_for(box, first[2], "retired", DRAIN_S)
    until(lambda: report(box, first[3])["state"] == "exited", REFUSED_S, "the first version's engine is gone")


def test_an_older_bundle_is_refused_on_the_medium_and_as_a_proposal(box: Box) -> None:
    with pytest.raises(stack.CommandError, match="rollback"):
        import_version(box, 1)
    older = str(rows(box, "SELECT digest FROM releases_release WHERE version = 1")[0][0])
    with pytest.raises(stack.CommandError, match="rollback"):
        propose(box, older)
    assert serving(box)[1] == 2


def test_going_back_takes_two_signatures_and_leads_to_the_first_version(box: Box) -> None:
    change_id = int(box.manage("roll_back", "--actor", "alice", "--reason", "the second answers worse"))
    approve(box, change_id, "bob", "carol")
    wait_for(box, change_id, "serving", START_S)
    assert serving(box)[1:3] == (1, change_id)
    until(lambda: ask(box).receipt["change_id"] == change_id, 10, "answers name the roll-back")


def flip(path: Path) -> None:
    """Change one bit in the middle of a file, as root would."""
    mode = path.stat().st_mode & 0o7777
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o640)
    path.write_bytes(data)
    path.chmod(mode)


def test_one_flipped_byte_in_an_installed_weight_file_stops_the_engine_with_the_reason_shown(box: Box) -> None:
    digest, _, _, slot = serving(box)
    weights = box.site.releases_dir / digest / "model.safetensors"
    flip(weights)
    try:
        restart_engine(box)
        until(lambda: degraded(box) == "digest_mismatch", REFUSED_S, "the engine is refused")
        assert report(box, slot)["state"] == "refused"
        shown = box.manage("releases")
        assert "NOT ANSWERING" in shown
        assert "model.safetensors" in shown
        with pytest.raises((request.RequestError, OSError)):
            ask(box)
    finally:
        flip(weights)  # the next test waits for the engine to come back


def test_one_launch_flag_changed_by_sql_stops_the_engine_with_the_reason_shown(box: Box) -> None:
    change_id, slot = serving(box)[2:]
    (before,) = rows(box, "SELECT facts FROM changes_change WHERE id = %s", change_id)[0]
    changed = dict(before) | {"arguments": [*before["arguments"], "--max-num-batched-tokens", "2048"]}
    owner = box.site.postgres.owner_role
    update = "UPDATE changes_change SET facts = %s WHERE id = %s"
    box.sql(update, (json.dumps(changed), change_id), role=owner)
    try:
        until(lambda: degraded(box) == "approval_signature", REFUSED_S, "the engine is refused")
        assert report(box, slot)["state"] == "refused"
        assert "does not match this change" in box.manage("releases")
    finally:
        box.sql(update, (json.dumps(before), change_id), role=owner)
    wait_well(box)


def test_one_approval_inserted_by_sql_starts_nothing_and_says_why(box: Box) -> None:
    newer = newest(box)
    change_id = propose(box, newer, "one real approval, one forged")
    approve(box, change_id, "bob")
    box.sql(
        "INSERT INTO changes_approval (change_id, proposer, approver, digest, key_id, signature, at)"
        " SELECT c.id, c.proposer, 'carol', c.digest, a.key_id, %s, now() FROM changes_change c,"
        " changes_approval a WHERE c.id = %s AND a.approver = 'carol' LIMIT 1",
        (os.urandom(64), change_id),
    )
    box.sql("UPDATE changes_change SET state = 'approved' WHERE id = %s", (change_id,))

    def ended() -> bool:
        return rows(box, "SELECT state FROM changes_change WHERE id = %s", change_id) == [("failed",)]

    until(ended, REFUSED_S, "the executor refuses the forged approval")
    (message,) = rows(box, "SELECT message FROM changes_change WHERE id = %s", change_id)[0]
    assert "carol" in str(message)
    assert deployment(box, change_id) == ("", "", "")

    # Past the executor as well: a deployment row of one's own makes the launcher look, and refuse.
    slot = "b" if serving(box)[3] == "a" else "a"
    until(
        lambda: not rows(box, "SELECT 1 FROM releases_deployment WHERE state = 'draining'"), DRAIN_S, "the slot is free"
    )
    box.sql(
        "INSERT INTO releases_deployment (release_id, change_id, slot, state, message, code, gate, created)"
        " SELECT r.id, %s, %s, 'starting', '', '', '{}', now() FROM releases_release r WHERE r.digest = %s",
        (change_id, slot, newer),
    )
    wait_for(box, change_id, "failed", REFUSED_S)
    _, code, message = deployment(box, change_id)
    assert code == "approval_signature"
    assert "carol" in str(message)
    assert serving(box)[1] == 1
    assert ask(box).text


def test_the_supervisor_survives_a_restart_of_postgresql(box: Box) -> None:
    pid = box.pid("engines")
    box.stop_postgres()
    box.start_postgres()
    wait_well(box)
    assert read_table(box.layout.base)["engines"]["pid"] == pid
    assert serving(box)[1] == 1
