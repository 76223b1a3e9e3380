"""No approved digest, no process. Each attack runs the real launcher; the mark of the engine must not appear."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable

import pytest

from provisioning.approval import ChangeFacts
from tests.provisioning.launcher.conftest import Slot
from tests.simulators.order_maker import Person

Attack = Callable[[Slot], object]


def test_an_approved_order_becomes_the_engine(slot: Slot) -> None:
    words = slot.launch()
    assert [word["state"] for word in words if "state" in word] == ["verifying", "starting"]
    assert words[-1]["approvers"] == ["bob", "carol"]
    seen = json.loads(slot.engine.mark.read_text())
    release = str(slot.order.folder)
    assert seen["argv"][1:7] == ["-I", "-B", "-m", "vllm.entrypoints.cli.main", "serve", release]
    assert seen["argv"][seen["argv"].index("--chat-template") + 1] == f"{release}/chat_template.jinja"
    assert not any("{" in word and "release" in word for word in seen["argv"])


def test_the_engine_inherits_nothing(slot: Slot, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTHONPATH", "LD_PRELOAD_X", "VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_INSECURE_SERIALIZATION", "OTEL_X"):
        monkeypatch.setenv(name, "1")
    slot.launch()
    seen = json.loads(slot.engine.mark.read_text())
    approved = set(slot.order.facts["environment"])
    ours = {
        "HF_HOME", "HOME", "LANG", "PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONFAULTHANDLER", "PYTHONNOUSERSITE",
        "PYTHONSAFEPATH", "TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "VLLM_API_KEY", "VLLM_CACHE_ROOT",
        "VLLM_CONFIG_ROOT", "VLLM_RPC_BASE_PATH", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
    }  # fmt: skip
    assert set(seen["environment"]) - {"LC_CTYPE"} == approved | ours
    assert seen["environment"]["VLLM_API_KEY"] == slot.site.secret("engine-api-key").decode()
    assert seen["environment"]["VLLM_API_KEY"] not in " ".join(seen["argv"])
    assert seen["core"] == [0, 0]
    assert seen["umask"] == 0o007
    assert seen["cwd"].startswith(str(slot.site.run_dir))


def test_the_engine_sees_a_network_with_nothing_in_it_and_the_report_says_what_was_measured(slot: Slot) -> None:
    words = slot.launch()
    seen = json.loads(slot.engine.mark.read_text())
    measured = "empty namespace" if seen["interfaces"] == ["lo"] else "host"
    assert [word["network"] for word in words if "network" in word] == [measured]
    if os.geteuid() == 0:  # without privileges it depends on the kernel; as root there is no excuse
        assert measured == "empty namespace"
        assert seen["pid"] == 1


def test_the_engine_cannot_see_the_secrets_nor_change_its_weights_nor_undo_that(slot: Slot) -> None:
    slot.launch()
    seen = json.loads(slot.engine.mark.read_text())
    assert seen["capabilities"][0] == "0" * 16
    if os.geteuid() == 0:  # without privileges the service's own user and systemd do this
        assert seen["capabilities"][1] == "0" * 16
        assert seen["tries"] == {
            "secrets": "[]",
            "write": "error: Read-only file system",
            "read": "True",
            "unmount": "'no'",
        }
    assert (slot.site.secrets_dir / "roster-key").exists()
    assert list(slot.order.folder.iterdir())


def test_what_an_earlier_engine_left_in_its_private_folder_is_gone(slot: Slot) -> None:
    planted = slot.site.engine_socket("a").parent / "private" / "cache" / "vllm" / "evil.so"
    planted.parent.mkdir(parents=True)
    planted.write_bytes(b"\x7fELF")
    slot.launch()
    assert slot.engine.mark.exists()
    assert not planted.exists()
    assert slot.site.engine_socket("a").parent.stat().st_mode & 0o777 == 0o750


def _flip(slot: Slot) -> None:
    path = slot.order.folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o640)
    path.write_bytes(data)


def _append(slot: Slot) -> None:
    path = slot.order.folder / "config.json"
    path.chmod(0o640)
    with path.open("ab") as file:
        file.write(b" ")


def _link(slot: Slot) -> None:
    path = slot.order.folder / "config.json"
    target = slot.site.state_dir / "config.json"
    path.rename(target)
    path.symlink_to(target)


def _second_name(slot: Slot) -> None:
    os.link(slot.order.folder / "config.json", slot.site.state_dir / "config.json")


def _folder(slot: Slot) -> None:
    (slot.order.folder / "vllm").mkdir()
    (slot.order.folder / "vllm" / "__init__.py").write_text("import os")


def _engine_version(slot: Slot) -> None:
    (metadata,) = slot.engine.home.glob("lib/*/site-packages/*/METADATA")
    metadata.write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.33.0\n")


FILES: dict[str, tuple[str, Attack]] = {
    "one flipped byte": ("digest_mismatch", _flip),
    "one byte more": ("size_mismatch", _append),
    "one file more": ("file_unlisted", lambda slot: (slot.order.folder / "evil.py").write_text("import os")),
    "one file more in a folder": ("file_unlisted", _folder),
    "one file less": ("file_missing", lambda slot: (slot.order.folder / "tokenizer.json").unlink()),
    "a link": ("file_not_regular", _link),
    "a second name": ("file_linked", _second_name),
    "an executable": ("bad_mode", lambda slot: (slot.order.folder / "config.json").chmod(0o550)),
    "no release at all": ("release_missing", lambda slot: slot.order.folder.rename(slot.site.state_dir / "gone")),
    "another engine version": ("engine_version", _engine_version),
    "another engine lock": ("engine_lock", lambda slot: (slot.engine.home / "engine.lock").write_text("vllm==0.33.0")),
    "no engine": ("engine_missing", lambda slot: (slot.engine.home / "lib").rename(slot.engine.home / "gone")),
}


@pytest.mark.parametrize("name", FILES)
def test_what_changed_on_disk_after_approval_starts_nothing(slot: Slot, name: str) -> None:
    code, attack = FILES[name]
    attack(slot)
    assert slot.refusal() == code


def _facts(slot: Slot) -> dict[str, object]:
    facts: dict[str, object] = slot.order.order["change"]["facts"]
    return facts


def _digest_too(slot: Slot, change: Callable[[dict[str, object]], object]) -> None:
    """Alter the facts and compute the digest again, as somebody with the database but without keys can."""
    change(_facts(slot))
    body = slot.order.order["change"]
    names = ("id", "kind", "subject", "facts", "proposer", "quorum")
    body["digest"] = ChangeFacts(**{name: body[name] for name in names}).digest


def _insert_approval(slot: Slot, *, enrolled: bool) -> None:
    """Mallory has a key, and may even write rows; she has no key of the box to make a roster MAC with."""
    mallory = Person("mallory")
    slot.order.approvers = [slot.order.approvers[0], mallory]
    slot.order.sign()
    entry = slot.order.order["roster"][1]
    entry["mac"] = mallory.enrolled(b"not the key of this box, 32 byte")["mac"]
    if not enrolled:
        slot.order.order["roster"].pop()


def _twice(slot: Slot) -> None:
    approvals = slot.order.order["approvals"]
    approvals[1] = dict(approvals[0])


def _two_keys_of_one_person(slot: Slot) -> None:
    slot.order.approvers = [Person("bob"), Person("bob")]
    slot.order.sign()


def _one_key_for_two_people(slot: Slot) -> None:
    bob = Person("bob")
    slot.order.approvers = [bob, Person("carol", bob.key)]
    slot.order.sign()


def _proposer_approves(slot: Slot) -> None:
    slot.order.approvers = [Person("bob"), Person("alice")]
    slot.order.sign()


def _moved_signature(slot: Slot) -> None:
    approvals = slot.order.order["approvals"]
    approvals[1]["signature"] = approvals[0]["signature"]


def _of_another_change(slot: Slot) -> None:
    good = [dict(approval) for approval in slot.order.order["approvals"]]
    slot.order.facts["version"] = 2
    slot.order.sign()
    slot.order.order["approvals"] = good


APPROVALS: dict[str, tuple[str, Attack]] = {
    "an approval inserted": ("roster_forged", lambda slot: _insert_approval(slot, enrolled=True)),
    "an approval by nobody": ("approval_key_unknown", lambda slot: _insert_approval(slot, enrolled=False)),
    "one approver twice": ("approval_repeated", _twice),
    "one person with two keys": ("approval_repeated", _two_keys_of_one_person),
    "one key for two people": ("approval_repeated", _one_key_for_two_people),
    "the proposer among them": ("approval_by_proposer", _proposer_approves),
    "a signature moved to another name": ("approval_signature", _moved_signature),
    "signatures of another change": ("approval_signature", _of_another_change),
    "a forged signature": (
        "approval_signature",
        lambda slot: slot.order.order["approvals"][1].update(signature=base64.b64encode(bytes(64)).decode()),
    ),
    "one approval": ("approval_quorum", lambda slot: slot.order.order["approvals"].pop()),
    "no approval": ("approval_quorum", lambda slot: slot.order.order["approvals"].clear()),
    "a quorum of one": ("change_digest", lambda slot: slot.order.order["change"].update(quorum=1)),
    "a flag changed": ("change_digest", lambda slot: _facts(slot).update(arguments=["--trust-remote-code"])),
    "a flag changed and the digest with it": (
        "approval_signature",
        lambda slot: _digest_too(slot, lambda facts: facts.update(arguments=["--trust-remote-code"])),
    ),
    "another kind of change": ("change_kind", lambda slot: _resigned(slot, kind="client.issue_key")),
    "another slot": ("order_slot", lambda slot: slot.order.order.update(slot="b")),
    "not an order": ("order_syntax", lambda slot: slot.order.order.clear()),
    "a field more": ("order_syntax", lambda slot: slot.order.order.update(force=True)),
}


def _resigned(slot: Slot, **fields: object) -> None:
    for name, value in fields.items():
        setattr(slot.order, name, value)
    slot.order.sign()


@pytest.mark.parametrize("name", APPROVALS)
def test_what_was_not_approved_like_this_starts_nothing(slot: Slot, name: str) -> None:
    code, attack = APPROVALS[name]
    attack(slot)
    assert slot.refusal() == code


def _replace(slot: Slot, old: str, new: str) -> None:
    words = slot.order.facts["arguments"]
    words[words.index(old)] = new


def _without(slot: Slot, name: str) -> None:
    words = slot.order.facts["arguments"]
    at = words.index(name)
    del words[at : at + (1 if words[at + 1].startswith("--") else 2)]


SIGNED: dict[str, tuple[str, Attack]] = {
    "remote code": ("argument_forbidden", lambda slot: slot.order.facts["arguments"].append("--trust-remote-code")),
    "request logging": (
        "argument_forbidden",
        lambda slot: slot.order.facts["arguments"].append("--enable-log-requests"),
    ),
    "another socket": ("argument_forbidden", lambda slot: slot.order.facts["arguments"].extend(["--uds", "/tmp/x"])),
    "middleware": ("argument_forbidden", lambda slot: slot.order.facts["arguments"].extend(["--middleware", "os.x"])),
    "an abbreviation": ("argument_unknown", lambda slot: slot.order.facts["arguments"].append("--trust-remote")),
    "underscores": ("argument_unknown", lambda slot: slot.order.facts["arguments"].append("--trust_remote_code")),
    "an equals sign": ("argument_unknown", lambda slot: slot.order.facts["arguments"].append("--seed=0")),
    "a free word": ("argument_unknown", lambda slot: slot.order.facts["arguments"].append("evil")),
    "one twice": ("argument_repeated", lambda slot: slot.order.facts["arguments"].extend(["--seed", "1"])),
    "another template": (
        "argument_value",
        lambda slot: _replace(slot, "{release}/chat_template.jinja", "/tmp/x.jinja"),
    ),
    "a placeholder elsewhere": ("argument_value", lambda slot: _replace(slot, "demo", "{release}")),
    "prompts in the log": ("argument_value", lambda slot: _replace(slot, "warning", "debug")),
    "no limit on headers": ("argument_missing", lambda slot: _without(slot, "--h11-max-header-count")),
    "no template": ("argument_missing", lambda slot: _without(slot, "--chat-template")),
    "a library path": (
        "environment_forbidden",
        lambda slot: slot.order.facts["environment"].update(LD_PRELOAD="/x.so"),
    ),
    "developer mode": (
        "environment_forbidden",
        lambda slot: slot.order.facts["environment"].update(VLLM_SERVER_DEV_MODE="1"),
    ),
    "plug-ins": ("environment_value", lambda slot: slot.order.facts["environment"].update(VLLM_PLUGINS="evil")),
    "debug logging": (
        "environment_value",
        lambda slot: slot.order.facts["environment"].update(VLLM_LOGGING_LEVEL="DEBUG"),
    ),
    "usage statistics": ("environment_value", lambda slot: slot.order.facts["environment"].pop("VLLM_NO_USAGE_STATS")),
    "files that do not make the release": (
        "release_digest",
        lambda slot: slot.order.facts["files"]["config.json"].update(sha256="0" * 64),
    ),
    "a path in place of the release": ("facts_shape", lambda slot: slot.order.facts.update(release="../../etc")),
    "a fact more": ("facts_shape", lambda slot: slot.order.facts.update(force=True)),
    "arguments as text": ("facts_shape", lambda slot: slot.order.facts.update(arguments="--x")),
    "another engine": ("engine_version", lambda slot: slot.order.facts["engine"].update(version="0.31.0")),
}


@pytest.mark.parametrize("name", SIGNED)
def test_what_people_signed_is_still_refused_when_it_must_never_run(slot: Slot, name: str) -> None:
    code, change = SIGNED[name]
    change(slot)
    slot.order.sign()
    assert slot.refusal() == code


def test_a_change_that_was_signed_before_capabilities_were_a_fact_still_starts(slot: Slot) -> None:
    del slot.order.facts["capabilities"]
    slot.order.sign()
    slot.launch()
    assert slot.engine.mark.exists()


def test_an_order_for_one_slot_is_not_taken_by_the_other(slot: Slot) -> None:
    assert slot.launch(slot="b")[-1]["code"] == "order_slot"
    assert not slot.engine.mark.exists()


def test_a_roster_key_that_others_can_read_starts_nothing(slot: Slot) -> None:
    (slot.site.secrets_dir / "roster-key").chmod(0o644)
    assert slot.refusal() == "site_unusable"
