"""What is not refused but held for a person, and what is allowed beside what the corpus refuses."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from provisioning.bundle import BundleError, template, tokenizer
from provisioning.bundle.strict_json import JsonError, Limits, loads
from tests.simulators.bundle_maker import TEMPLATE, BundleMaker, header, raw_weights, shapes, weights

CONDITIONS = [
    "{% if 'codeine' in message.content %}x{% endif %}{{ message.content }}",
    "{{ message.content if message['content'] | length > 9 else message.content }}",
    "{% set c = message.content %}{% if c %}{{ c }}{% endif %}",
    "{% set ns = namespace(c='') %}{% set ns.c = message.content %}{% if ns.c == 'x' %}{% endif %}{{ message.content }}",
    "{{ message.content | replace('no', '') }}",
    "{{ message.content.strip() }}",
    "{{ message.content }}{{ {'yes': 'x'}[message.content] }}",
    "{% for word in message.content %}{{ word }}{% endfor %}",
    "{{ message.content }}{{ (message.content == 'x') and 'y' }}",
    "{% macro put(m) %}{% if m == 'x' %}{% endif %}{% endmacro %}{{ put(message.content) }}{{ message.content }}",
    "{{ message.content }}{% if loop.previtem is defined and loop.previtem.content == 'x' %}y{% endif %}",
    "{% if message.values() | list == [] %}{% endif %}{{ message.content }}",
]
PLAIN = [
    "{% if message.role == 'system' %}S{% elif message['role'] == 'user' %}U{% endif %}{{ message.content }}",
    "{{ message.content | trim }}",
    "{% if message.content is string %}{{ message.content }}{% endif %}",
    "{% if loop.first and messages | length > 1 %}first{% endif %}{{ message['content'] }}",
    "{% if messages[0].role == 'system' %}has system{% endif %}{{ message.content }}",
]


def around(body: str) -> bytes:
    return ("{% for message in messages %}" + body + "{% endfor %}").encode()


@pytest.mark.parametrize("body", CONDITIONS)
def test_a_template_that_message_content_can_steer_is_held_for_a_person(body: str) -> None:
    assert template.check(around(body), [])


@pytest.mark.parametrize("body", PLAIN)
def test_a_template_that_looks_only_at_roles_is_not_held(body: str) -> None:
    assert not template.check(around(body), [])


def test_a_held_bundle_is_received_but_not_ok(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    maker.files["chat_template.jinja"] = around(CONDITIONS[0])
    verdict = maker.sign().receive().verdict
    assert (verdict.ok, verdict.held, verdict.code) == (False, True, "needs_template_review")


def test_a_template_that_renders_what_its_publisher_recorded_is_accepted(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    render = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    cases = {"renders": [{"messages": [{"role": "user", "content": "hello"}], "render": render}]}
    maker.files["golden.json"] = json.dumps(cases).encode()
    assert maker.sign().receive().verdict.ok


MEASURE = """
import resource
from provisioning.bundle import BundleError, template
try:
    template.check(b"{{ 'A' * 10 ** 9 }}", [])
except BundleError as refused:
    print(refused.code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def test_a_greedy_template_is_refused_within_its_memory() -> None:
    """In a process of its own, so that the largest child measured is the one that rendered."""
    told = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, timeout=30, check=True)
    code, kilobytes = told.stdout.split()
    assert code == "template_cost"
    assert int(kilobytes) < 256 * 1024


def test_a_template_may_refuse_a_conversation_it_does_not_know_but_not_the_simplest() -> None:
    refuses = "{% if messages | length > 2 %}{{ raise_exception('no') }}{% endif %}"
    assert not template.check((refuses + TEMPLATE).encode(), [])
    with pytest.raises(BundleError) as caught:
        template.check(("{{ raise_exception('no') }}" + TEMPLATE).encode(), [])
    assert caught.value.code == "template_golden"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_norm_that_is_not_a_number_is_held_for_a_person(tmp_path: Path, value: float) -> None:
    maker = BundleMaker(tmp_path)
    entries, size = header(shapes())
    data = bytearray(b"\0\0\x80\x3f" * (size // 4))
    start = entries["model.norm.weight"]["data_offsets"][0]
    data[start + 4 : start + 8] = struct.pack("<f", value)
    maker.files["model.safetensors"] = weights(entries, bytes(data))
    verdict = maker.sign().receive().verdict
    assert (verdict.ok, verdict.code) == (False, "needs_weight_review")


def test_a_header_padded_with_spaces_is_accepted_as_the_format_pads(tmp_path: Path) -> None:
    maker = BundleMaker(tmp_path)
    entries, size = header(shapes())
    maker.files["model.safetensors"] = raw_weights(json.dumps(entries).encode() + b"   ", b"\0\0\x80\x3f" * (size // 4))
    assert maker.sign().receive().verdict.ok


@pytest.mark.parametrize(
    "pattern",
    [
        r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ],
)
def test_the_patterns_of_stock_tokenizers_are_accepted(pattern: str) -> None:
    tokenizer.check_pattern(pattern)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "syntax"),
        (b"{}{}", "syntax"),
        (b'{"a":1,"a":1}', "duplicate"),
        (b'{"a":{"b":1,"\\u0062":1}}', "duplicate"),
        (b"[" * 17 + b"]" * 17, "depth"),
        (b'"' * 100_001, "syntax"),
        (b'"\\ud800"', "syntax"),
        (b"1.0", "number"),
        (b"-0", "number"),
        (b"1" * 4000, "number"),
        (b"NaN", "number"),
        (b"{'a':1}", "syntax"),
        (b'{"a":1,}', "syntax"),
        (b'"a\nb"', "syntax"),
        (b" " * 200_001, "size"),
    ],
)
def test_a_document_that_could_be_read_in_two_ways_is_not_read(data: bytes, kind: str) -> None:
    with pytest.raises(JsonError) as caught:
        loads(data, Limits(size=200_000))
    assert caught.value.kind == kind


@pytest.mark.parametrize("data", [b'["' + b"[" * 100 + b'"]', b'"\\ud83d\\ude00"', b'{"a": [1, true, null]}', b" 1 "])
def test_an_ordinary_document_is_read(data: bytes) -> None:
    assert loads(data, Limits(size=200_000)) == json.loads(data)
