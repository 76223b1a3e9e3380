"""`tokenizer.json` and `tokenizer_config.json`: words, ids and patterns within the model's bounds.

Decides: ids are unique and inside the vocabulary, tokens have a sane length, and no pattern can be made to run forever.
Leaves special meanings of tokens to the gateway, which refuses their literals in content (SECURITY.md T39).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from provisioning.bundle.errors import BundleError

_MOST_ADDED = 20_000
_LONGEST_TOKEN = 4096
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")
_LONGEST_REGEX = 512
# A quantifier on a group is how a pattern becomes exponential; the pre-tokenisers of stock models have none.
_QUANTIFIED_GROUP = re.compile(r"(?<!\\)\)[*+{]")
_BACK_REFERENCE = re.compile(r"\\[1-9]|\\k<")
_MARK = re.compile(r"<[^\s<>]+>|\[[^\s\[\]]+\]")
_MODELS = ("BPE", "WordLevel", "Unigram", "WordPiece")
_CLASSES = (
    "LlamaTokenizer", "LlamaTokenizerFast", "PreTrainedTokenizerFast", "Qwen2Tokenizer", "Qwen2TokenizerFast", "TokenizersBackend",
)  # fmt: skip


def check(document: Mapping[str, Any], vocab_size: int) -> None:
    """The tokenizer itself, or `tokenizer` / `tokenizer_regex`."""
    model = document.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") not in _MODELS:
        raise BundleError("tokenizer", "tokenizer.json has a model this appliance does not know")
    seen: dict[int, str] = {}
    for token, identifier in _vocabulary(model):
        _check_token(token, identifier, vocab_size)
        if identifier in seen:
            raise BundleError("tokenizer", "tokenizer.json gives one id to two tokens")
        seen[identifier] = token
    _check_added(document.get("added_tokens", []), seen, vocab_size)
    for pattern in _patterns(document):
        check_pattern(pattern)


def check_config(document: Mapping[str, Any]) -> None:
    """`tokenizer_config.json`: a stock class, and no second chat template."""
    if "chat_template" in document:
        raise BundleError(
            "template_ambiguous", "tokenizer_config.json brings a chat template besides chat_template.jinja"
        )
    if document.get("tokenizer_class", _CLASSES[0]) not in _CLASSES:
        raise BundleError("config_field", "tokenizer_config.json names a class this appliance does not know")


def control_tokens(document: Mapping[str, Any]) -> frozenset[str]:
    """What the tokenizer reads as a control token wherever it stands in a text.

    Every token it calls special; and of the others it adds, those shaped like a mark: `<tool_call>` steers some models as
    much as a special token does, while runs of spaces are added only to save room.
    """
    return frozenset(
        token["content"]
        for token in document["added_tokens"]
        if token["content"] and (token.get("special") is True or _MARK.fullmatch(token["content"]))
    )


def check_pattern(pattern: str) -> None:
    """A regular expression whose cost grows with the text, not with the square or the power of it."""
    if len(pattern) > _LONGEST_REGEX or _QUANTIFIED_GROUP.search(pattern) or _BACK_REFERENCE.search(pattern):
        raise BundleError(
            "tokenizer_regex", "tokenizer.json has a pattern that can be made to run for a very long time"
        )


def _vocabulary(model: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        yield from vocabulary.items()
    elif isinstance(vocabulary, list):
        for identifier, entry in enumerate(vocabulary):
            if not isinstance(entry, list) or len(entry) != 2:
                raise BundleError("tokenizer", "tokenizer.json has a vocabulary this appliance cannot read")
            yield entry[0], identifier
    else:
        raise BundleError("tokenizer", "tokenizer.json has no vocabulary")


def _check_token(token: Any, identifier: Any, vocab_size: int) -> None:
    if not isinstance(token, str) or len(token) > _LONGEST_TOKEN:
        raise BundleError("tokenizer", f"tokenizer.json has a token longer than {_LONGEST_TOKEN} characters")
    if token.startswith("<0x") and token.endswith(">") and not _BYTE_TOKEN.fullmatch(token):
        raise BundleError("tokenizer", "tokenizer.json has a byte token that is no byte")
    if type(identifier) is not int or not 0 <= identifier < vocab_size:
        raise BundleError("tokenizer", "tokenizer.json gives a token an id outside the vocabulary")


def _check_added(added: Any, seen: Mapping[int, str], vocab_size: int) -> None:
    if not isinstance(added, list) or len(added) > _MOST_ADDED:
        raise BundleError("tokenizer", f"tokenizer.json adds more than {_MOST_ADDED} tokens")
    mine: set[int] = set()
    for entry in added:
        if not isinstance(entry, dict):
            raise BundleError("tokenizer", "tokenizer.json has an added token that is no object")
        token: Any = entry.get("content")
        identifier: Any = entry.get("id")
        _check_token(token, identifier, vocab_size)
        # The same token may stand in the vocabulary as well; another token under its id may not.
        if identifier in mine or seen.get(identifier, token) != token:
            raise BundleError("tokenizer", "tokenizer.json gives one id to two tokens")
        mine.add(identifier)


def _patterns(document: Mapping[str, Any]) -> Iterator[str]:
    stack: list[Any] = [document.get(part) for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder")]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            pattern = item.get("Regex")
            if isinstance(pattern, str):
                yield pattern
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
