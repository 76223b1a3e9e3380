"""The evaluation bundle: the model this repository brings, packed as any publisher would pack theirs.

Decides what its manifest says. Leaves training to `provisioning.evaluation.train` and trust to the appliance: nothing
on the way in knows that this bundle is ours.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from provisioning.bundle import manifest
from provisioning.bundle.pack import pack_once
from provisioning.durable import replace_whole

NAME = "isoward-clinical-demo"
FILES = (
    "model.safetensors", "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "chat_template.jinja", "golden.json", "model_card.json",
)  # fmt: skip
OPTIONAL = ("generation_config.json", "golden.json", "model_card.json")
VERSION = 1
GOLDEN_FORMAT = "isoward-golden-v1"
LONGEST_ANSWER = 400

_TEXT = {
    "title": "Isoward clinical demonstration model",
    "family": "isoward-evaluation",
    "license": "Apache-2.0",
    "intended_use": "Shows the appliance at work on synthetic records. It is not a medical device and not for clinical use.",
    "quantization": "none",
    "source": "Trained from scratch by provisioning/evaluation/train.py on synthetic text from a seeded generator.",
    "converter": "none: written as safetensors by the training script",
}


def pack(model: Path, out: Path) -> Path:
    """Write the signed repository to `out` and its public root beside it; returns the root's path."""
    with tempfile.TemporaryDirectory(prefix="isoward-pack-") as scratch:
        staging = Path(scratch) / NAME
        staging.mkdir()
        for name in FILES:
            if name not in OPTIONAL or (model / name).is_file():
                shutil.copyfile(model / name, staging / name)
        _write_golden(staging / "golden.json")
        text = json.dumps(_manifest(staging), indent=2, sort_keys=True, ensure_ascii=True) + "\n"
        (staging / manifest.NAME).write_text(text, encoding="ascii")
        root = pack_once(staging, out, bundle=NAME)
    path = out.parent / f"{out.name}-root.json"
    replace_whole(path, root, mode=0o644)
    return path


def _manifest(staging: Path) -> dict[str, object]:
    config = json.loads((staging / "config.json").read_text(encoding="utf-8"))
    return {
        "format": manifest.FORMAT,
        "name": NAME,
        "version": VERSION,
        "architecture": config["architectures"][0],
        "languages": ["en", "es"],
        "min_appliance_version": "0.1.0",
        **_TEXT,
    }


def _write_golden(path: Path) -> None:
    """The training's golden cases in the form an appliance asks them: what an answer must contain is its facts."""
    if not path.is_file():
        return
    golden = json.loads(path.read_text(encoding="utf-8"))
    if golden.get("format") == GOLDEN_FORMAT:
        return
    cases = [
        {"task": case["task"], "record": case["record"], "must_contain": case["facts"], "max_tokens": LONGEST_ANSWER}
        for case in golden["cases"]
    ]
    path.write_text(json.dumps({"format": GOLDEN_FORMAT, "cases": cases}, indent=2) + "\n", encoding="utf-8")
