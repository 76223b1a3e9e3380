"""Small bundles that are genuine in every respect but size, and every way to spoil them.

    maker = BundleMaker(tmp_path)
    maker.manifest["version"] -= 1
    maker.sign()
    maker.receive()

Files are changed in `maker.files`; `sign()` lists and signs them anew with both publishers. Changes to `maker.medium`
after `sign()` are what an attacker without keys can do.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.formats import encode_canonical

from provisioning import bundle
from provisioning.bundle import pack
from provisioning.bundle.pack import Publisher

NAME = "demo"
NOW = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
SIGNED = datetime(2027, 2, 1, tzinfo=UTC)
EXPIRES = SIGNED + timedelta(days=365)

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CONFIG: dict[str, Any] = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "dtype": "float32",
    "vocab_size": 32,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
    "tie_word_embeddings": True,
    "eos_token_id": 1,
}
MANIFEST: dict[str, Any] = {
    "format": "isoward-manifest-v1",
    "name": NAME,
    "version": 7,
    "title": "A bundle for tests",
    "family": "tests",
    "architecture": "Qwen3ForCausalLM",
    "license": "Apache-2.0",
    "intended_use": "tests",
    "quantization": "none",
    "source": "made by tests/simulators/bundle_maker.py",
    "converter": "none",
    "languages": ["en"],
    "min_appliance_version": "0.1.0",
}


def shapes(config: Mapping[str, Any] = CONFIG) -> dict[str, tuple[int, ...]]:
    """The tensors CONFIG needs, written down by hand: the product's own list is what is tested."""
    vocabulary, hidden, inner, wide = config["vocab_size"], config["hidden_size"], config["intermediate_size"], 16
    layer = "model.layers.0"
    return {
        "model.embed_tokens.weight": (vocabulary, hidden),
        f"{layer}.input_layernorm.weight": (hidden,),
        f"{layer}.mlp.down_proj.weight": (hidden, inner),
        f"{layer}.mlp.gate_proj.weight": (inner, hidden),
        f"{layer}.mlp.up_proj.weight": (inner, hidden),
        f"{layer}.post_attention_layernorm.weight": (hidden,),
        f"{layer}.self_attn.k_norm.weight": (8,),
        f"{layer}.self_attn.k_proj.weight": (wide, hidden),
        f"{layer}.self_attn.o_proj.weight": (hidden, wide),
        f"{layer}.self_attn.q_norm.weight": (8,),
        f"{layer}.self_attn.q_proj.weight": (wide, hidden),
        f"{layer}.self_attn.v_proj.weight": (wide, hidden),
        "model.norm.weight": (hidden,),
    }


def header(tensors: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, Any], int]:
    """A safetensors header of F32 tensors laid end to end, and how many bytes they take."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, shape in tensors.items():
        size = 4
        for dimension in shape:
            size *= dimension
        entries[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    return entries, position


def weights(entries: Mapping[str, Any], data: bytes) -> bytes:
    """A weight file of a header and its bytes."""
    return raw_weights(json.dumps(entries, separators=(",", ":")).encode(), data)


def raw_weights(text: bytes, data: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text + data


def tokenizer() -> dict[str, Any]:
    words = {f"w{number}": number for number in range(2, 32)}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": 0, "content": "<|im_start|>", "special": True},
            {"id": 1, "content": "<|im_end|>", "special": True},
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Split",
            "pattern": {"Regex": r"\p{L}+ ?|\p{N}"},
            "behavior": "Isolated",
            "invert": False,
        },
        "model": {"type": "WordLevel", "vocab": words, "unk_token": "w2"},
    }


class BundleMaker:
    """One publisher's repository with one bundle, and the appliance that receives from it."""

    def __init__(self, folder: Path, *, publishers: int = 2) -> None:
        self.folder = folder
        self.medium = folder / "medium"
        self.quarantine = folder / "quarantine"
        self.publishers = [Publisher.generate(f"publisher-{number}") for number in range(publishers)]
        self.manifest: dict[str, Any] = json.loads(json.dumps(MANIFEST))
        self.config: dict[str, Any] = json.loads(json.dumps(CONFIG))
        self.tokenizer: dict[str, Any] = tokenizer()
        entries, size = header(shapes())
        self.files: dict[str, bytes] = {
            "model.safetensors": weights(entries, b"\0\0\x80\x3f" * (size // 4)),
            "tokenizer_config.json": b'{"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}',
            "chat_template.jinja": TEMPLATE.encode(),
        }
        self.repository = pack.Repository(self.medium)
        self.repository.create(pack.new_root([p.key for p in self.publishers], expires=EXPIRES))
        self.sign()
        self.root = (self.medium / "metadata" / "1.root.json").read_bytes()
        self.trust = bundle.initial(self.root)

    @property
    def tree(self) -> Path:
        return self.medium / "targets" / NAME

    def sign(self, *, expires: datetime = EXPIRES, by: int = 2) -> BundleMaker:
        """Write the files as they are now, list them, and let the first `by` publishers sign."""
        source = self.folder / "source"
        for name, data in self._all_files().items():
            path = source / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        self.repository.add(NAME, source, now=SIGNED, expires=expires)
        for path in source.rglob("*"):
            if path.is_file():
                path.unlink()
        for publisher in self.publishers[:by]:
            self.repository.sign(publisher)
        return self

    def _all_files(self) -> dict[str, bytes]:
        made = {
            "manifest.json": json.dumps(self.manifest).encode(),
            "config.json": json.dumps(self.config).encode(),
            "tokenizer.json": json.dumps(self.tokenizer).encode(),
        }
        return made | self.files

    def receive(
        self,
        *,
        now: datetime = NOW,
        cancelled: Callable[[], bool] = lambda: False,
        progress: Callable[[int, int], None] = lambda _done, _total: None,
        keep: bool = False,
        bundle_name: str = NAME,
    ) -> bundle.Received:
        """What the appliance answers; `keep` lets it remember, as it does after an import."""
        received = bundle.receive(
            self.medium,
            bundle=bundle_name,
            quarantine=self.quarantine,
            trust=self.trust,
            now=now,
            progress=progress,
            cancelled=cancelled,
        )
        if keep:
            self.trust = received.trust
        return received

    def document(self, name: str) -> dict[str, Any]:
        """A signed document of the medium, to be altered and written back without a signature."""
        value: dict[str, Any] = json.loads((self.medium / "metadata" / f"{name}.json").read_bytes())
        return value

    def write_document(self, name: str, value: Mapping[str, Any] | bytes) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        (self.medium / "metadata" / f"{name}.json").write_bytes(data)

    def alter_catalogue(self, change: Callable[[dict[str, Any]], None]) -> None:
        """Change what the catalogue says, with the signatures of both publishers: their keys, another hand."""
        signed = self.document("targets")["signed"]
        change(signed)
        self.write_document("targets", signed_by(self.publishers, signed))
        self.rebind()

    def rebind(self) -> None:
        """New snapshot and timestamp, well signed, over `targets.json` as it lies there now."""
        for name, below in (("snapshot", "targets"), ("timestamp", "snapshot")):
            data = (self.medium / "metadata" / f"{below}.json").read_bytes()
            version = json.loads(data)["signed"]["version"]
            signed = self.document(name)["signed"]
            signed["version"] += 1
            described = {
                "version": version,
                "length": len(data),
                "hashes": {"sha256": hashlib.sha256(data).hexdigest()},
            }
            signed["meta"] = {f"{below}.json": described}
            self.write_document(name, signed_by(self.publishers[:1], signed))

    def write_next_root(
        self, change: Callable[[dict[str, Any]], None], *, by: Iterable[Publisher], name: str = "2.root"
    ) -> None:
        """A root after the first, altered by `change` and signed by whom the test says."""
        signed = copy.deepcopy(self.document("1.root")["signed"])
        signed["version"] = 2
        change(signed)
        self.write_document(name, signed_by(by, signed))

    def rotate_root(self, *, signed_by_old: bool, signed_by_new: bool) -> list[Publisher]:
        """Root 2 hands every role to two new people; returns them."""
        fresh = [Publisher.generate(f"new-{number}") for number in range(2)]
        signers = [*(self.publishers if signed_by_old else []), *(fresh if signed_by_new else [])]
        self.write_next_root(
            lambda root: hand_over(root, ("root", "targets", "snapshot", "timestamp"), fresh), by=signers
        )
        return fresh

    def hand_targets_to_others(self, *, keep_old_in_timestamp: bool) -> None:
        """Root 2 takes `targets` from the people who signed the catalogue on this medium."""
        if not keep_old_in_timestamp:
            self.rotate_root(signed_by_old=True, signed_by_new=True)
            return
        fresh = [Publisher.generate(f"new-{number}") for number in range(2)]
        self.write_next_root(lambda root: hand_over(root, ("targets",), fresh), by=self.publishers)

    def remember(self, name: str, version: int) -> None:
        """Let the appliance have received another bundle before."""
        self.trust = replace(self.trust, bundle_versions=dict(self.trust.bundle_versions) | {name: version})

    def snapshot_of_medium(self) -> Path:
        kept = self.folder / "kept"
        shutil.copytree(self.medium, kept, dirs_exist_ok=True)
        return kept

    def restore_medium(self, kept: Path) -> None:
        shutil.rmtree(self.medium)
        shutil.copytree(kept, self.medium)


def signed_by(publishers: Iterable[Publisher], signed: Mapping[str, Any]) -> dict[str, Any]:
    """A TUF document around `signed`, whatever it says, with genuine signatures."""
    payload = str(encode_canonical(dict(signed))).encode()
    signatures = [{"keyid": p.key.keyid, "sig": p.private.sign(payload).hex()} for p in publishers]
    return {"signatures": signatures, "signed": dict(signed)}


def hand_over(root: dict[str, Any], roles: Iterable[str], people: Iterable[Publisher]) -> None:
    """Give roles of a root to other people; keys nobody uses any more are dropped."""
    for publisher in people:
        root["keys"][publisher.key.keyid] = publisher.key.to_dict()
    for role in roles:
        root["roles"][role]["keyids"] = [publisher.key.keyid for publisher in people]
    used = {key for role in root["roles"].values() for key in role["keyids"]}
    root["keys"] = {key: value for key, value in root["keys"].items() if key in used}
