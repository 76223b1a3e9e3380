"""What vLLM may be told: the arguments and the environment, closed lists both.

Decides: the defaults a change is proposed with, and what is refused even when approved. People sign a list of
arguments; they cannot be expected to know that one of them loads code. Leaves to `verify` whether they signed at all.

- Every argument is spelled out in full, name and value apart; vLLM's own parser also takes `--a=b`, underscores and
  abbreviations, and none of those is in the list.
- The hardening of SECURITY.md section 5 is required, not just permitted: leaving one out is refused as well.
- Checked against `vllm serve --help=all` of 0.32.0.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from provisioning.launcher.errors import LaunchRefusedError
from provisioning.site_config import EngineSite, Site

RELEASE = "{release}"
"""Stands for the release's folder, which is named by its digest and so is not part of what is signed twice."""

_FIXED: dict[str, str | None] = {
    "--chat-template": f"{RELEASE}/chat_template.jinja",
    "--load-format": "safetensors",
    "--disable-fastapi-docs": None,
    "--disable-uvicorn-access-log": None,
    "--uvicorn-log-level": "warning",
    "--max-log-len": "0",
    "--fingerprint-mode": "none",
    "--h11-max-incomplete-event-size": "1048576",
    "--h11-max-header-count": "32",
    "--allowed-origins": "[]",
    "--allowed-methods": '["GET","POST"]',
    "--generation-config": "vllm",
    "--scheduling-policy": "priority",
    # One backend, so that what a grammar means does not depend on the request; and no free white space, with which a
    # model that is unsure would fill its whole length.
    "--structured-outputs-config": '{"backend":"xgrammar","disable_any_whitespace":true}',
}
"""Must be there, with exactly this value. None: a switch without one."""

_WHOLE = r"[1-9][0-9]{0,9}"
_FREE: dict[str, str | None] = {
    "--served-model-name": r"[a-z0-9][a-z0-9.-]{0,62}",
    "--max-model-len": _WHOLE,
    "--max-logprobs": r"[0-5]",
    "--max-num-seqs": _WHOLE,
    "--max-num-batched-tokens": _WHOLE,
    "--dtype": r"auto|bfloat16|float16|float32",
    "--kv-cache-dtype": r"auto|fp8|fp8_e4m3|fp8_e5m2",
    "--tensor-parallel-size": r"[1-9]|1[0-6]",
    "--gpu-memory-utilization": r"0\.[0-9]{1,3}",
    "--stream-interval": r"[1-9][0-9]?",
    "--seed": r"[0-9]{1,9}",
    "--enforce-eager": None,
    "--no-enable-prefix-caching": None,
    "--enable-prefix-caching": None,
    "--prefix-caching-hash-algo": r"sha256|sha256_cbor",
    "--limit-mm-per-prompt": r'\{"image":0,"video":0,"audio":0\}',
}
"""May be there, in this form."""

_NEEDED = ("--served-model-name", "--max-logprobs", "--max-model-len", "--max-num-seqs")

FORBIDDEN = frozenset({
    "--allowed-local-media-path", "--allowed-media-domains", "--api-key", "--code-revision", "--config",
    "--enable-auto-tool-choice", "--enable-lora", "--enable-log-outputs", "--enable-log-requests", "--enable-mm-embeds",
    "--enable-prompt-embeds", "--enable-tokenizer-info-endpoint", "--hf-config-path", "--hf-overrides", "--hf-token",
    "--host", "--kv-transfer-config", "--log-error-stack", "--lora-modules", "--middleware", "--model", "--model-impl",
    "--override-generation-config", "--pipeline-parallel-size", "--port", "--profiler-config", "--speculative-config",
    "--tokenizer", "--tokens-only", "--tool-call-parser", "--tool-parser-plugin", "--tool-server", "--trust-remote-code",
    "--trust-request-chat-template", "--uds", "--worker-cls", "--worker-extension-cls",
})  # fmt: skip
"""Named so that the refusal can say why; anything else outside the lists above is refused too."""

_ENVIRONMENT: dict[str, str] = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_DO_NOT_TRACK": "1",
    "VLLM_HOST_IP": "127.0.0.1",
    "VLLM_LOGGING_LEVEL": "WARNING",
    "VLLM_LOOPBACK_IP": "127.0.0.1",
    "VLLM_MAX_N_SEQUENCES": "1",
    "VLLM_MEDIA_URL_ALLOW_REDIRECTS": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_PLUGINS": "",
    "VLLM_USAGE_STATS_SERVER": "http://127.0.0.1:9",
}
_FREE_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": r"[1-9][0-9]{0,3}",
    "VLLM_CPU_OMP_THREADS_BIND": r"auto|nobind|[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*",
    "OMP_NUM_THREADS": r"[1-9][0-9]{0,2}",
    "TORCHDYNAMO_DISABLE": r"1",
}


class Release(Protocol):
    """What a default is made for."""

    @property
    def digest(self) -> str: ...
    @property
    def name(self) -> str: ...


@dataclass(frozen=True)
class Defaults:
    """What a change proposes to run, in the form its facts have."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    served_model_name: str


def default(site: Site, release: Release) -> Defaults:
    """The arguments and environment for this release on this box."""
    config = json.loads((site.releases_dir / release.digest / "config.json").read_text(encoding="utf-8"))
    context = min(site.engine.max_model_len, int(config["max_position_embeddings"]))
    arguments: list[str] = []
    for name, value in _FIXED.items():
        arguments += [name] if value is None else [name, value]
    arguments += ["--served-model-name", release.name]
    # As many alternatives as the LAN API may ask for on behalf of a client that is granted them.
    arguments += ["--max-logprobs", "5"]
    arguments += ["--max-model-len", str(context), "--max-num-seqs", str(site.engine.seats)]
    arguments += [
        "--limit-mm-per-prompt",
        '{"image":0,"video":0,"audio":0}',
        "--no-enable-prefix-caching",
        "--seed",
        "0",
    ]
    # On a CPU the half types are emulated: slower and less exact than what the weights were trained in.
    arguments += ["--dtype", "float32", "--enforce-eager"] if site.engine.device == "cpu" else ["--dtype", "auto"]
    return Defaults(tuple(arguments), _ENVIRONMENT | _for_device(site.engine), release.name)


def _for_device(engine: EngineSite) -> dict[str, str]:
    if engine.device != "cpu":
        return {}
    # Bound by vLLM itself, both slots' engines pin their threads to the same cores, and the one that serves stalls
    # while the next one starts. Unbound, with half the cores each, they pass each other by.
    half = max(1, len(os.sched_getaffinity(0)) // 2)
    return {
        "VLLM_CPU_KVCACHE_SPACE": str(engine.kv_cache_gib),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(half),
        # vLLM compiles the counting of log probabilities at its first use: 20 s in which nothing else is answered, with
        # a C++ compiler that a box does not have.
        "TORCHDYNAMO_DISABLE": "1",
    }


def check(arguments: Iterable[str], *, served_model_name: str) -> None:
    """Every argument is one we know, in its one spelling, once; nothing that hardens is missing."""
    words = list(arguments)
    seen: dict[str, str | None] = {}
    while words:
        name = words.pop(0)
        if name in FORBIDDEN:
            raise LaunchRefusedError("argument_forbidden", f"{name} is never allowed, approved or not")
        if name not in _FIXED and name not in _FREE:
            raise LaunchRefusedError("argument_unknown", f"{name[:60]!r} is not on the list of what vLLM may be given")
        if name in seen:
            raise LaunchRefusedError("argument_repeated", f"{name} stands twice")
        form = _FIXED[name] if name in _FIXED else _FREE[name]
        seen[name] = words.pop(0) if form is not None and words else None
        _check_value(name, seen[name])
    for name in (*_FIXED, *_NEEDED):
        if name not in seen:
            raise LaunchRefusedError("argument_missing", f"{name} must be given")
    if seen["--served-model-name"] != served_model_name:
        raise LaunchRefusedError("argument_value", "--served-model-name is not the name the change routes to")


def check_environment(environment: Mapping[str, str]) -> None:
    """Every variable is one we know and may hold this; none that hardens is missing."""
    for name, value in environment.items():
        if name not in _ENVIRONMENT and name not in _FREE_ENVIRONMENT:
            raise LaunchRefusedError(
                "environment_forbidden", "a variable is not on the list of those vLLM may be given"
            )
        if name in _FREE_ENVIRONMENT and not re.fullmatch(_FREE_ENVIRONMENT[name], value):
            raise LaunchRefusedError("environment_value", f"{name} has a value it may not have")
    for name, value in _ENVIRONMENT.items():
        if environment.get(name) != value:
            raise LaunchRefusedError("environment_value", f"{name} must be set to {value!r}")


def engine_version(python: Path) -> str:
    """The version of vLLM installed beside this interpreter, from its metadata: nothing is started to ask."""
    found = [
        distribution.version
        for folder in sorted(_prefix(python).glob("lib/python3*/site-packages"))
        for distribution in importlib.metadata.distributions(name="vllm", path=[str(folder)])
    ]
    if len(found) != 1:
        raise LaunchRefusedError(
            "engine_missing", f"{_prefix(python)} holds {len(found)} installations of vLLM, not one"
        )
    return found[0]


def engine_lock(python: Path) -> str:
    """SHA-256 of the lock the engine's environment was made from, as it was copied into it."""
    try:
        return hashlib.sha256((_prefix(python) / "engine.lock").read_bytes()).hexdigest()
    except OSError:
        raise LaunchRefusedError(
            "engine_missing", f"{_prefix(python)} does not say which lock it was made from"
        ) from None


def _prefix(python: Path) -> Path:
    # Not resolved: a virtual environment's python is a link to the system's.
    return python.parent.parent


def _check_value(name: str, value: str | None) -> None:
    if name in _FIXED:
        right = value == _FIXED[name]
    else:
        form = _FREE[name]
        right = value is None if form is None else value is not None and re.fullmatch(form, value) is not None
    if not right:
        raise LaunchRefusedError("argument_value", f"{name} has a value it may not have")
