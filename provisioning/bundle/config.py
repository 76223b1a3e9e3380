"""`config.json` and its neighbours: every number bounded, every field known, and the tensors they promise.

Decides: whether the configuration is one the engine can be given without surprise. Unknown fields are refused, because
loaders act on fields they find. Leaves weights' bytes to `safetensors_header`, words to `tokenizer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from provisioning.bundle.errors import BundleError
from provisioning.bundle.safetensors_header import Tensor

_WHOLE: dict[str, tuple[int, int]] = {
    "vocab_size": (16, 1_000_000),
    "hidden_size": (16, 65_536),
    "intermediate_size": (16, 262_144),
    "num_hidden_layers": (1, 256),
    "num_attention_heads": (1, 512),
    "num_key_value_heads": (1, 512),
    "head_dim": (8, 1024),
    "max_position_embeddings": (16, 2_097_152),
    "sliding_window": (1, 2_097_152),
    "max_window_layers": (0, 256),
    "pretraining_tp": (1, 1),
    "bos_token_id": (0, 1_000_000),
    "eos_token_id": (0, 1_000_000),
    "pad_token_id": (0, 1_000_000),
}
_NEEDED = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings",
)  # fmt: skip
_NUMBER: dict[str, tuple[float, float]] = {
    "rope_theta": (1.0, 1e9),
    "rms_norm_eps": (1e-12, 1e-2),
    "initializer_range": (0.0, 1.0),
    "attention_dropout": (0.0, 0.0),
}
_FLAG = ("attention_bias", "mlp_bias", "tie_word_embeddings", "use_cache", "use_sliding_window")
_TEXT: dict[str, tuple[str, ...]] = {
    "model_type": ("llama", "qwen3"),
    "hidden_act": ("silu",),
    "torch_dtype": ("float32", "float16", "bfloat16"),
    "dtype": ("float32", "float16", "bfloat16"),
    "_attn_implementation": ("eager", "sdpa", "flash_attention_2"),
    "attn_implementation": ("eager", "sdpa", "flash_attention_2"),
}
_OTHER = (
    "architectures",
    "layer_types",
    "quantization_config",
    "rope_parameters",
    "rope_scaling",
    "transformers_version",
)
_MODEL_TYPE = {"LlamaForCausalLM": "llama", "Qwen3ForCausalLM": "qwen3"}
_DTYPE = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
_ROPE_NUMBERS: dict[str, tuple[float, float]] = {
    "factor": (1.0, 64.0), "low_freq_factor": (0.1, 64.0), "high_freq_factor": (0.1, 64.0), "rope_theta": (1.0, 1e9),
    "original_max_position_embeddings": (16, 2_097_152), "attention_factor": (0.0, 16.0), "beta_fast": (0.0, 256.0),
    "beta_slow": (0.0, 256.0),
}  # fmt: skip
_ROPE_TYPES = ("default", "linear", "dynamic", "yarn", "llama3")
_QUANT_METHODS = ("fp8", "gptq", "awq", "compressed-tensors")
_CODE_FIELDS = ("custom_pipelines", "trust_remote_code", "custom_generate", "base_model_name_or_path")
_GENERATION = {
    "_from_model_config", "bos_token_id", "do_sample", "eos_token_id", "max_length", "max_new_tokens", "pad_token_id",
    "repetition_penalty", "temperature", "top_k", "top_p", "transformers_version",
}  # fmt: skip


@dataclass(frozen=True)
class ModelShape:
    """The numbers other checks need."""

    architecture: str
    vocab_size: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    tied: bool
    attention_bias: bool
    mlp_bias: bool
    dtype: str
    quantized: bool


def check_no_code(value: Any, where: str) -> None:
    """No field, at any depth of any JSON file, that tells a loader to fetch or run something (SECURITY.md finding 7)."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if "auto_map" in item:
                raise BundleError("auto_map", f"{where} names code to load")
            if any(name in item for name in _CODE_FIELDS):
                raise BundleError("config_field", f"{where} has a field that asks for code or another model")
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def check(config: Mapping[str, Any], architecture: str) -> ModelShape:
    """The shape of the model, or `config_field` / `config_range` / `incompatible`."""
    if config.get("architectures") != [architecture] or config.get("model_type") != _MODEL_TYPE[architecture]:
        raise BundleError("incompatible", "config.json is for another architecture than the manifest says")
    for name, value in config.items():
        _check_field(name, value)
    for name in _NEEDED:
        if name not in config:
            raise BundleError("config_field", f"config.json lacks {name}")
    shape = _shape(config, architecture)
    if shape.heads % shape.kv_heads or shape.head_dim % 2:
        raise BundleError("config_range", "config.json: the heads do not divide as they must")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        for token in _tokens(config.get(name)):
            if token >= shape.vocab_size:
                raise BundleError("config_range", f"config.json: {name} lies outside the vocabulary")
    return shape


def check_generation(value: Mapping[str, Any]) -> None:
    """`generation_config.json`: the engine is told to ignore it, and it still holds nothing else."""
    if set(value) - _GENERATION:
        raise BundleError("config_field", "generation_config.json has a field this appliance does not know")


def check_tensors(shape: ModelShape, tensors: Mapping[str, Tensor]) -> None:
    """Exactly the tensors this configuration needs, each in its shape and type; BAD_INPUTS 65 and 70."""
    if shape.quantized:
        # Packed weights have shapes of their own; what must hold for every method is the vocabulary's end.
        embedding = tensors.get("model.embed_tokens.weight")
        if embedding is None or embedding.shape != (shape.vocab_size, shape.hidden):
            raise BundleError("st_shape_config", "the embedding does not have the vocabulary's size")
        return
    expected = dict(_expected(shape))
    for name in sorted(expected):
        if name not in tensors:
            raise BundleError("st_shape_config", f"{name} is missing from the weights")
        if tensors[name].shape != expected[name]:
            raise BundleError("st_shape_config", f"{name} has another shape than config.json says")
    for name in sorted(tensors):
        if name not in expected:
            raise BundleError("st_shape_config", f"{name} is not part of this architecture")
        if tensors[name].dtype != shape.dtype:
            raise BundleError("st_dtype", f"{name} has another type than config.json says")


def _check_field(name: str, value: Any) -> None:  # noqa: C901, PLR0912 - one branch for each kind of field
    if name in _WHOLE:
        if value is None:
            return
        for number in value if name == "eos_token_id" and isinstance(value, list) and len(value) <= 16 else [value]:
            _bounded(name, number, *_WHOLE[name], whole=True)
    elif name in _NUMBER:
        _bounded(name, value, *_NUMBER[name], whole=False)
    elif name in _FLAG:
        if type(value) is not bool:
            raise BundleError("config_field", f"config.json: {name} is not true or false")
    elif name in _TEXT:
        if value not in _TEXT[name]:
            raise BundleError("config_field", f"config.json: {name} has a value this appliance does not know")
    elif name in ("rope_parameters", "rope_scaling"):
        _check_rope(name, value)
    elif name == "quantization_config":
        if not isinstance(value, dict) or value.get("quant_method") not in _QUANT_METHODS:
            raise BundleError(
                "config_field", "config.json: quantization_config has a method this appliance does not know"
            )
    elif name == "layer_types":
        if not isinstance(value, list) or len(value) > 256 or set(value) - {"full_attention", "sliding_attention"}:
            raise BundleError("config_field", "config.json: layer_types has a kind this appliance does not know")
    elif name not in _OTHER:
        raise BundleError("config_field", "config.json has a field this appliance does not know")


def _check_rope(name: str, value: Any) -> None:
    if value is None:
        return
    if not isinstance(value, dict):
        raise BundleError("config_field", f"config.json: {name} is not an object")
    for key, inner in value.items():
        if key in ("rope_type", "type"):
            if inner not in _ROPE_TYPES:
                raise BundleError("config_field", f"config.json: {name} has a kind this appliance does not know")
        elif key in _ROPE_NUMBERS:
            _bounded(f"{name}.{key}", inner, *_ROPE_NUMBERS[key], whole=False, code="config_field")
        else:
            raise BundleError("config_field", f"config.json: {name} has a field this appliance does not know")


def _bounded(name: str, value: Any, low: float, high: float, *, whole: bool, code: str = "config_range") -> None:
    if type(value) is not int and (whole or type(value) is not float):
        raise BundleError("config_field", f"config.json: {name} is not a {'whole ' if whole else ''}number")
    if not low <= value <= high:
        raise BundleError(code, f"config.json: {name} is outside {low} to {high}")


def _tokens(value: Any) -> list[int]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _shape(config: Mapping[str, Any], architecture: str) -> ModelShape:
    heads = config["num_attention_heads"]
    return ModelShape(
        architecture=architecture,
        vocab_size=config["vocab_size"],
        hidden=config["hidden_size"],
        intermediate=config["intermediate_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        context=config["max_position_embeddings"],
        tied=config.get("tie_word_embeddings", False),
        attention_bias=config.get("attention_bias", False),
        mlp_bias=config.get("mlp_bias", False),
        dtype=_DTYPE[config.get("dtype") or config.get("torch_dtype") or "float32"],
        quantized="quantization_config" in config,
    )


def _expected(shape: ModelShape) -> Iterator[tuple[str, tuple[int, ...]]]:
    hidden, wide, narrow = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    yield "model.embed_tokens.weight", (shape.vocab_size, hidden)
    yield "model.norm.weight", (hidden,)
    if not shape.tied:
        yield "lm_head.weight", (shape.vocab_size, hidden)
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}"
        yield f"{prefix}.input_layernorm.weight", (hidden,)
        yield f"{prefix}.post_attention_layernorm.weight", (hidden,)
        for part, rows, columns in (
            ("q", wide, hidden),
            ("k", narrow, hidden),
            ("v", narrow, hidden),
            ("o", hidden, wide),
        ):
            yield f"{prefix}.self_attn.{part}_proj.weight", (rows, columns)
            if shape.attention_bias:
                yield f"{prefix}.self_attn.{part}_proj.bias", (rows,)
        if shape.architecture == "Qwen3ForCausalLM":
            yield f"{prefix}.self_attn.q_norm.weight", (shape.head_dim,)
            yield f"{prefix}.self_attn.k_norm.weight", (shape.head_dim,)
        for part, rows, columns in (
            ("gate", shape.intermediate, hidden),
            ("up", shape.intermediate, hidden),
            ("down", hidden, shape.intermediate),
        ):
            yield f"{prefix}.mlp.{part}_proj.weight", (rows, columns)
            if shape.mlp_bias:
                yield f"{prefix}.mlp.{part}_proj.bias", (rows,)
