"""Group E: config, tokenizer, template. Every bundle here is signed by both publishers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.corpus.case import Spoil, each
from tests.simulators.bundle_maker import TEMPLATE, BundleMaker


def _config(**fields: Any) -> Spoil:
    def spoil(maker: BundleMaker) -> None:
        maker.config.update(fields)
        maker.sign()

    return spoil


def _file(name: str, data: bytes) -> Spoil:
    def spoil(maker: BundleMaker) -> None:
        maker.files[name] = data
        maker.sign()

    return spoil


def _tokenizer(change: Callable[[dict[str, Any]], Any]) -> Spoil:
    def spoil(maker: BundleMaker) -> None:
        change(maker.tokenizer)
        maker.sign()

    return spoil


def _template(text: str) -> Spoil:
    return _file("chat_template.jinja", text.encode())


MAP = {"AutoModelForCausalLM": "modeling_x.Evil"}

each(
    71,
    "auto_map",
    top_level=_config(auto_map=MAP),
    nested=_config(text_config={"inner": [{"auto_map": MAP}]}),
    in_tokenizer_config=_file("tokenizer_config.json", json.dumps({"auto_map": MAP}).encode()),
    in_tokenizer=_tokenizer(lambda tokenizer: tokenizer.update(auto_map=MAP)),
    in_generation_config=_file("generation_config.json", json.dumps({"x": {"auto_map": MAP}}).encode()),
    in_the_card=_file("model_card.json", json.dumps({"auto_map": None}).encode()),
)
each(
    73,
    "config_field",
    trust_remote_code=_config(trust_remote_code=True),
    custom_pipelines=_config(custom_pipelines={"x": {"impl": "x.Y"}}),
    attention_by_path=_config(_attn_implementation="evil/kernel"),
    attention_by_path_without_underscore=_config(attn_implementation="../kernel"),
    unknown_quantization=_config(quantization_config={"quant_method": "evil"}),
    scaling=_config(rope_scaling={"rope_type": "linear", "factor": 1e308}),
    scaling_in_parameters=_config(rope_parameters={"rope_type": "linear", "factor": 65}),
    unknown_field=_config(evil=1),
    text_for_a_number=_config(hidden_size="16"),
    true_for_a_number=_config(num_hidden_layers=True),
    unknown_tokenizer_class=_file("tokenizer_config.json", b'{"tokenizer_class": "EvilTokenizer"}'),
    remote_generation=_file("generation_config.json", b'{"custom_generate": "x/y"}'),
)
each(
    74,
    "config_range",
    vocabulary=_config(vocab_size=2**31),
    layers=_config(num_hidden_layers=10**6),
    context=_config(max_position_embeddings=10**12),
    negative=_config(num_attention_heads=-2),
    zero=_config(hidden_size=0),
    epsilon=_config(rms_norm_eps=1.0),
    heads_that_do_not_divide=_config(num_attention_heads=3),
    end_outside_the_vocabulary=_config(eos_token_id=32),
)
each(
    74,
    "json_syntax",
    infinity=lambda maker: _file("config.json", json.dumps(maker.config).replace("1e-06", "1e400").encode())(maker),
    nan=lambda maker: _file("config.json", json.dumps(maker.config).replace("1e-06", "NaN").encode())(maker),
    key_twice=lambda maker: _file("config.json", b'{"vocab_size": 32,' + json.dumps(maker.config).encode()[1:])(maker),
    byte_order_mark=lambda maker: _file("config.json", b"\xef\xbb\xbf" + json.dumps(maker.config).encode())(maker),
    ten_thousand_deep=_file("model_card.json", b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    five_thousand_digits=_file("model_card.json", b'{"a":' + b"9" * 5000 + b"}"),
)


def _vocabulary(tokenizer: dict[str, Any]) -> dict[str, int]:
    words: dict[str, int] = tokenizer["model"]["vocab"]
    return words


each(
    76,
    "tokenizer",
    duplicate_ids=_tokenizer(lambda t: _vocabulary(t).update(again=5)),
    duplicate_with_added=_tokenizer(lambda t: t["added_tokens"].append({"id": 5, "content": "other"})),
    outside_the_vocabulary=_tokenizer(lambda t: _vocabulary(t).update(far=32)),
    negative=_tokenizer(lambda t: _vocabulary(t).update(below=-1)),
    no_byte=_tokenizer(lambda t: _vocabulary(t).update({"<0x-1>": _vocabulary(t).pop("w5")})),
    ten_megabyte_token=_tokenizer(lambda t: _vocabulary(t).update({"a" * 10_000_000: _vocabulary(t).pop("w5")})),
    many_added=_tokenizer(lambda t: t.update(added_tokens=[{"id": 0, "content": "x"}] * 100_000)),
    unknown_model=_tokenizer(lambda t: t["model"].update(type="Evil")),
)
each(
    77,
    "tokenizer_regex",
    exponential=_tokenizer(lambda t: t["pre_tokenizer"].update(pattern={"Regex": "(a+)+$"})),
    in_a_normalizer=_tokenizer(
        lambda t: t.update(normalizer={"type": "Replace", "pattern": {"Regex": "(x|x)*y"}, "content": ""})
    ),
    in_a_sequence=_tokenizer(
        lambda t: t.update(pre_tokenizer={"type": "Sequence", "pretokenizers": [{"pattern": {"Regex": r"(.*)\1"}}]})
    ),
)
each(
    79,
    "template_ambiguous",
    in_tokenizer_config=_file("tokenizer_config.json", json.dumps({"chat_template": TEMPLATE}).encode()),
    list_in_tokenizer_config=_file(
        "tokenizer_config.json", json.dumps({"chat_template": [{"name": "default"}]}).encode()
    ),
    additional=_file("additional_chat_templates/tool_use.jinja", TEMPLATE.encode()),
    old_name=_file("chat_template.json", b"{}"),
)
each(
    80,
    "template_cost",
    nested_loops=_template("{% for a in range(99999) %}{% for b in range(99999) %}{{ a }}{% endfor %}{% endfor %}"),
    silent_loops=_template("{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"),
    long_text=_template("{{ 'A' * 10**10 }}"),
    long_text_below_the_limit_of_memory=_template("{{ 'A' * 10**7 }}"),
    center=_template("{{ 'A'.center(10**10) }}"),
    format=_template("{{ '%999999999d' % 1 }}"),
    long_range=_template("{{ range(10**9) | list }}"),
    recursion=_template("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
    power=_template("{{ 10 ** (10 ** 10) }}"),
    long_source=_template("{# " + "a" * 100_000 + " #}" + TEMPLATE),
)
each(
    80,
    "template_invalid",
    reaches_for_python=_template("{{ ''.__class__.__mro__[1].__subclasses__() }}"),
    includes_a_file=_template("{% include '/etc/passwd' %}"),
    not_a_template=_template("{% for %}"),
    not_utf8=_file("chat_template.jinja", b"\xff\xfe"),
)
each(
    83,
    "template_golden",
    drops_the_system=_template(
        "{% for m in messages %}{% if m.role != 'system' %}{{ m.role }}{{ m.content }}{% endif %}{% endfor %}"
    ),
    reorders=_template("{% for m in messages|reverse %}{{ m.role }}{{ m.content }}{% endfor %}"),
    repeats=_template("{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}"),
    only_the_last=_template("{{ messages[-1].content }}"),
    not_as_recorded=lambda maker: _golden(maker, "something else"),
)


def _golden(maker: BundleMaker, render: str) -> None:
    case = {"messages": [{"role": "user", "content": "hello"}], "render": render}
    maker.files["golden.json"] = json.dumps({"renders": [case]}).encode()
    maker.sign()
