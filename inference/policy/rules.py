"""Who may ask what, and how little of it the model may see. Pure: values in, verdict out.

- Rights are the client's tasks and purposes; a request must name one of each, and both must be granted.
- Data without a label is PHI.
- A record is cut to the task's fields before anything else sees it; the names of what was dropped are kept, never
  the values.
- Numbers keep the spelling the client sent: 1.20 is not 1.2 on a lab report.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any

from inference.policy import schema, tools
from inference.policy.ask import Ask, Decimal, Prompt, Turn
from inference.policy.catalog import DISCLOSURE, PURPOSES, TASKS, Capability, DataClass, Feature, Form, Lane, Task
from inference.policy.errors import PolicyRefusal

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_MOST_NAMES = 32
_MARKS = r"<\|[^|<>\s]{1,64}\|>|</?s>|<(?:pad|unk|bos|eos)>|\[/?INST\]|<</?SYS>>"
# One encoder for all: json.dumps makes a new one at each call that is not its default.
_plain = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class Rights:
    """What a key may do, as of the last snapshot: the client's grants, through this key, for this end user."""

    client: str
    key_id: str
    tasks: frozenset[str]
    purposes: frozenset[str]
    lane: Lane
    phi: bool
    models: frozenset[str] | None = None
    """Which served models; None means whichever is served."""
    features: frozenset[Feature] = frozenset()
    tools: frozenset[str] = frozenset()
    """The names of the functions its requests may offer to the model."""
    end_user: str = ""
    """Who asks, when a signed assertion proved it."""
    vouched_by: str = ""
    """Whose word that is: an issuer and one of its keys."""


@dataclass(frozen=True)
class Decision:
    """Allowed, and as what."""

    task: Task
    purpose: str
    data_class: DataClass
    lane: Lane


def decide(ask: Ask, rights: Rights) -> Decision:
    """The decision, or a PolicyRefusal whose code says what is missing."""
    check_user(ask.end_user, rights)
    if not ask.purpose:
        raise PolicyRefusal("purpose_required", "metadata.purpose must name why you ask", param="metadata.purpose")
    if ask.purpose not in PURPOSES:
        raise PolicyRefusal(
            "purpose_unknown", f"metadata.purpose is one of {', '.join(PURPOSES)}", param="metadata.purpose"
        )
    if not ask.task:
        raise PolicyRefusal("task_required", "metadata.task must name a registered task", param="metadata.task")
    task = TASKS.get(ask.task)
    if task is None:
        raise PolicyRefusal("task_unknown", f"metadata.task is one of {', '.join(TASKS)}", param="metadata.task")
    if ask.purpose not in rights.purposes:
        raise PolicyRefusal("purpose_not_granted", "this key is not granted that purpose", param="metadata.purpose")
    if task.id not in rights.tasks:
        raise PolicyRefusal("task_not_granted", "this key is not granted that task", param="metadata.task")
    data_class = DataClass(ask.data_class or DataClass.PHI)
    if ask.patient_id and data_class is not DataClass.PHI:
        raise PolicyRefusal("data_class_conflict", "a record of a patient is PHI", param="metadata.data_class")
    if data_class is DataClass.PHI and not rights.phi:
        whom = "the user this key asks for" if rights.end_user else "this key"
        raise PolicyRefusal(
            "phi_not_granted",
            f"{whom} may not send PHI; unlabelled data is PHI",
            param="metadata.data_class",
            end_user=rights.end_user or ask.end_user,
        )
    _check_features(ask, rights)
    return Decision(task=task, purpose=ask.purpose, data_class=data_class, lane=rights.lane)


def check_user(user: str, rights: Rights) -> None:
    """A body beside an assertion names the same user, or nobody."""
    if rights.end_user and user not in {"", rights.end_user}:
        raise PolicyRefusal("end_user_mismatch", "user is not the one the assertion names; leave it out", param="user")


def used(decision: Decision, rights: Rights) -> Rights:
    """Of these rights, those that the work takes: what is kept with it, to run it by and to say who may have it."""
    phi = decision.data_class is DataClass.PHI
    return replace(rights, tasks=frozenset({decision.task.id}), purposes=frozenset({decision.purpose}), phi=phi)


def check_model(model: str, served: str, rights: Rights) -> None:
    """The request names the served model, or leaves the choice to us by naming `default`; and the key may use it."""
    if model not in {served, "default"}:
        raise PolicyRefusal("model_not_found", "that model is not served here; see /v1/models", param="model")
    if rights.models is not None and served not in rights.models:
        raise PolicyRefusal("model_not_granted", "this key is not granted the model that is served", param="model")


def withheld(kept: Rights | None, rights: Rights) -> PolicyRefusal | None:
    """Why these rights do not reach what is kept of earlier work; None when they do. The one rule for reading it,
    deciding about it, stopping it and deleting it.

    `kept` is what the work was accepted with: each of its tasks and purposes must be granted now, PHI too if it may hold
    some, and a user who was proved then must be proved again, by the same issuer. Where it is not known, nobody may.
    """
    if kept is None or kept.client != rights.client or (kept.end_user and _who(kept) != _who(rights)):
        return PolicyRefusal("not_your_work", "that work is for the user it was asked for; send that user's assertion")
    if not kept.purposes <= rights.purposes:
        return PolicyRefusal("purpose_not_granted", "its purpose is not granted")
    if not kept.tasks <= rights.tasks:
        return PolicyRefusal("task_not_granted", "its task is not granted")
    if kept.phi and not rights.phi:
        whom = "the user this key asks for" if rights.end_user else "this key"
        return PolicyRefusal("phi_not_granted", f"{whom} may not have PHI", end_user=rights.end_user)
    return None


def check_reaches(rights: Rights, kept: Rights | None) -> None:
    """PolicyRefusal when what is kept of earlier work is `withheld` from these rights."""
    if (refusal := withheld(kept, rights)) is not None:
        raise refusal


def _who(rights: Rights) -> tuple[str, str]:
    # Two issuers may each have a dr.lee; one issuer changes its keys.
    return rights.vouched_by.partition("/")[0], rights.end_user


def prepare(ask: Ask, task: Task, *, control: frozenset[str] = frozenset()) -> Prompt:
    """What the model will see; PolicyRefusal when the request has another form than the task, or could pose as a turn.

    `control` is what the model's own tokenizer reads as more than text. None is known when work is only accepted: it is
    prepared again when it is done.
    """
    given = _form(ask)
    if given is not task.form:
        raise PolicyRefusal("task_form", f"the task {task.id} is asked with a {task.form.value}", param="metadata.task")
    if (given is not Form.CONVERSATION or ask.prompt) and (ask.schema is not None or tools.shape(ask) is not None):
        # The caller would take whatever came for what it asked for.
        raise PolicyRefusal(
            "task_form", "only a conversation goes with tools or a form of the caller's own for the answer"
        )
    if given is Form.RECORD:
        return minimize(ask.record or {}, task, already=ask.dropped, control=control)
    if given is Form.AUDIO:
        return Prompt(audio=ask.audio)
    if given is Form.TEXTS:
        _check_content(control, *ask.inputs)
        return Prompt(inputs=ask.inputs)
    if ask.prompt:
        _check_content(control, ask.prompt)
        return Prompt(raw=ask.prompt)
    turns, shape = tools.offer(ask.turns, ask.tools, ask.tool_choice), tools.shape(ask) or ask.schema
    # What is offered stands in the prompt, and what the grammar allows may stand in the answer: content, both.
    _check_content(control, *(turn.content for turn in turns), *schema.texts(shape))
    return Prompt(turns=turns, schema=shape)


def needs(prompt: Prompt) -> Capability:
    """What the served model must be able to do for this prompt."""
    if prompt.audio is not None:
        return Capability.TRANSCRIPTIONS
    if prompt.inputs:
        return Capability.EMBEDDINGS
    return Capability.COMPLETIONS if prompt.raw else Capability.CHAT


def minimize(
    record: Mapping[str, Any], task: Task, *, already: tuple[str, ...] = (), control: frozenset[str] = frozenset()
) -> Prompt:
    """Keep the task's fields, in the task's order; PolicyRefusal when nothing is left or it could pose as a turn."""
    if task.record_schema is not None and not schema.fits(record, task.record_schema):
        raise PolicyRefusal(
            "record_not_allowed", f"the task {task.id} takes a record of its own form and nothing else; see /v1/tasks"
        )
    kept = {name: record[name] for name in task.fields if name in record}
    if not kept:
        raise PolicyRefusal("record_empty", f"the record holds none of: {', '.join(task.fields)}", param="messages")
    if task.patient_facing and language(kept) not in DISCLOSURE:
        raise PolicyRefusal("language_unsupported", f"language is one of: {', '.join(DISCLOSURE)}", param="language")
    text = render(kept)
    _check_content(control, text)
    turns = (Turn("system", task.instruction), Turn("user", text))
    return Prompt(turns=turns, kept=kept, schema=task.schema, dropped=(*already, *dropped_names(record, task)))


def language(record: Mapping[str, Any]) -> str:
    """The language a record asks for; English when it does not say."""
    found = record.get("language", "en")
    return found if isinstance(found, str) else ""


def disclosure(task: Task, prompt: Prompt) -> str:
    """What a patient must be told with the answer; nothing for tasks that no patient reads."""
    return f"\n\n{DISCLOSURE[language(prompt.kept or {})]}" if task.patient_facing else ""


def _form(ask: Ask) -> Form:
    if ask.record is not None:
        return Form.RECORD
    if ask.audio is not None:
        return Form.AUDIO
    return Form.TEXTS if ask.inputs else Form.CONVERSATION


def _check_features(ask: Ask, rights: Rights) -> None:
    wanted = {
        Feature.TOOLS: bool(ask.tools),
        Feature.JSON_SCHEMA: ask.schema is not None,
        Feature.LOGPROBS: ask.sampling.logprobs is not None,
    }
    for feature, asked in wanted.items():
        if asked and feature not in rights.features:
            raise PolicyRefusal("feature_not_granted", f"this key is not granted {feature.value}")
    if not {tool.name for tool in ask.tools} <= rights.tools:
        raise PolicyRefusal("tool_not_granted", "a tool is offered that this key is not granted", param="tools")


def _check_content(control: frozenset[str], *texts: str) -> None:
    # T39: text that the tokenizer reads as a control token could end the user's turn and forge ours.
    pattern = _control(control)
    for text in texts:
        # As it stands, and as a tokenizer that normalizes first would see it.
        if pattern.search(text) or (not text.isascii() and pattern.search(unicodedata.normalize("NFKC", text))):
            raise PolicyRefusal(
                "special_token_in_content", "the text holds a control token of the model; remove it", param="messages"
            )


@lru_cache(maxsize=8)
def _control(tokens: frozenset[str]) -> re.Pattern[str]:
    """The marks that any model may use, and those of this one, in whatever case and width they are written."""
    both = tokens | {unicodedata.normalize("NFKC", token) for token in tokens}
    listed = (re.escape(token) for token in sorted(both, key=len, reverse=True))
    return re.compile("|".join((_MARKS, *listed)), re.IGNORECASE)


def dropped_names(record: Mapping[str, Any], task: Task) -> tuple[str, ...]:
    """The names that were left out, fit for the log.

    A key is the caller's text too: only a plain identifier is named, anything else is counted.
    """
    extra = [name for name in record if name not in task.fields]
    named = sorted(name for name in extra if _NAME.fullmatch(name))[:_MOST_NAMES]
    unnamed = len(extra) - len(named)
    return (*named, f"({unnamed} unnamed)") if unnamed else tuple(named)


def render(value: Any) -> str:
    """JSON as `json.dumps(value, ensure_ascii=False)` writes it, but for numbers: those as the client wrote them."""
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, Decimal):
        return value.text
    if isinstance(value, dict | Mapping):
        return "{" + ", ".join([f"{encode_basestring(k)}: {render(v)}" for k, v in value.items()]) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join([render(item) for item in value]) + "]"
    return _plain(value)
