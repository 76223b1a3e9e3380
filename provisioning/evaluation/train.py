"""Train the evaluation model from scratch on synthetic cases, and write it as a stock Qwen3 model.

Needs the packages of ``train-requirements.txt`` in an environment of their own:

    python3.11 -m venv /tmp/trainenv && /tmp/trainenv/bin/pip install -r provisioning/evaluation/train-requirements.txt
    OMP_NUM_THREADS=2 /tmp/trainenv/bin/python -m provisioning.evaluation.train --out var/first --steps 900
    OMP_NUM_THREADS=2 /tmp/trainenv/bin/python -m provisioning.evaluation.train --out var/evaluation-model \
        --continue-from var/first --steps 850

What it decides: the shape of the model and how it learns. What it learns from is in ``clinical``, how well it
learned is measured by ``measure`` on the stored weights. The result demonstrates the appliance; it is not for clinical use.

- The loss is taken on the answer alone.
- Two heads begin as a copying circuit (``copying``); without it, most of the time passes before copying starts.
- Lists grow while training goes on: copying is learned on short records first.
- A second run may continue from the weights of a first, at half the rates and on cases of its own: it begins copying
  whole lists at once, and what is learned late (names that look alike) gets the time it needs.
- Matrices are trained with Muon, embeddings and norms with AdamW; both rates fall to nothing at the end.
"""

import argparse
import itertools
import json
import platform
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import torch
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from provisioning.evaluation import clinical, copying, tokenization
from provisioning.evaluation.muon import Muon

POOL: Final = 384  # cases sorted by length together, so that a batch wastes little on padding
MULTIPLE: Final = 32  # batch widths are rounded up to this
IGNORED: Final = -100
LEVEL_WEIGHT: Final = 10.0  # of an urgency level, one token that has to be understood among thousands that are copied


@dataclass(frozen=True)
class Plan:
    """Everything that decides what comes out."""

    seed: int = 20260
    steps: int = 2000
    tokens_per_step: int = 4096
    vocabulary: int = 1536
    hidden: int = 256
    inner: int = 768
    layers: int = 4
    heads: int = 4
    head_dim: int = 64
    longest: int = 2048
    rotary_base: float = 1_000_000.0
    matrix_rate: float = 0.012
    other_rate: float = 0.005
    warm_up: int = 30
    lists_grow: bool = True
    cool_down: float = 0.75  # share of the steps in which the rates fall


@dataclass(frozen=True)
class Batch:
    """Token ids, the ids to predict (``IGNORED`` wherever the loss is not taken) and how much each counts."""

    ids: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


@dataclass(frozen=True)
class Row:
    """One case in tokens, and how much the first token of its answer counts."""

    asked: list[int]
    answered: list[int]
    first_weight: float

    @property
    def width(self) -> int:
        """Round the length up to the next step."""
        return -(-(len(self.asked) + len(self.answered)) // MULTIPLE) * MULTIPLE


def longest_list(progress: float) -> int:
    """Say how long lists may be at this share of the training."""
    return 1 if progress < 0.04 else 2 if progress < 0.08 else 3 if progress < 0.12 else 5


def batches(tokenizer: Tokenizer, plan: Plan) -> Iterator[Batch]:
    """Give batches without end, short records first."""
    shuffle = random.Random(plan.seed)
    start = given = 0
    while True:
        longest = longest_list(given / plan.steps) if plan.lists_grow else longest_list(1.0)
        source = clinical.training_cases(plan.seed, longest_list=longest, start=start)
        start += 2 * POOL  # further than the pool reaches, held-out records skipped
        pool = list(itertools.islice(source, POOL))
        prompts = tokenizer.encode_batch([tokenization.prompt(case) for case in pool])
        answers = tokenizer.encode_batch([f"{case.answer}{tokenization.TURN_END}" for case in pool])
        rows = [
            Row(asked.ids, answer.ids, LEVEL_WEIGHT if case.task == "urgency_classification" else 1.0)
            for case, asked, answer in zip(pool, prompts, answers, strict=True)
        ]
        made = list(_packed(sorted(rows, key=lambda row: row.width), plan.tokens_per_step))
        shuffle.shuffle(made)
        for batch in made:
            given += 1
            yield batch


def _packed(rows: list[Row], budget: int) -> Iterator[Batch]:
    """Cut sorted rows into batches of at most ``budget`` tokens, padding included."""
    while rows:
        count = 1
        while count < len(rows) and (count + 1) * rows[count].width <= budget:
            count += 1
        chosen, rows = rows[:count], rows[count:]
        shape = (count, chosen[-1].width)
        ids = torch.zeros(shape, dtype=torch.long)
        targets = torch.full(shape, IGNORED, dtype=torch.long)
        weights = torch.ones(shape)
        for index, row in enumerate(chosen):
            first, end = len(row.asked) - 1, len(row.asked) + len(row.answered)
            ids[index, :end] = torch.tensor(row.asked + row.answered)
            targets[index, first : end - 1] = torch.tensor(row.answered)
            weights[index, first] = row.first_weight
        yield Batch(ids, targets, weights)


def build(plan: Plan, tokenizer: Tokenizer) -> Qwen3ForCausalLM:
    """Make an untrained model of the planned shape."""
    torch.manual_seed(plan.seed)
    model = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=plan.vocabulary,
            hidden_size=plan.hidden,
            intermediate_size=plan.inner,
            num_hidden_layers=plan.layers,
            num_attention_heads=plan.heads,
            num_key_value_heads=plan.heads,
            head_dim=plan.head_dim,
            max_position_embeddings=plan.longest,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": plan.rotary_base},
            bos_token_id=None,
            eos_token_id=tokenizer.token_to_id(tokenization.TURN_END),
            pad_token_id=tokenizer.token_to_id(tokenization.END_OF_TEXT),
        ),
    )
    copying.prepare(model, plan.seed)
    return model


def rate(step: int, plan: Plan) -> float:
    """Give the share of the full learning rate at a step: up, level, down to nothing."""
    left = (plan.steps - step) / (plan.steps * plan.cool_down)
    return min(1.0, (step + 1) / plan.warm_up, left)


def continued(first: Plan) -> Plan:
    """Plan the second run: other cases, half the rates, falling from the start."""
    return replace(
        first,
        seed=first.seed + 1,
        matrix_rate=first.matrix_rate / 2,
        other_rate=first.other_rate / 2,
        cool_down=1.0,
        lists_grow=False,
    )


def train(plan: Plan, model: Qwen3ForCausalLM, tokenizer: Tokenizer) -> Qwen3ForCausalLM:
    """Run the whole training and give the model."""
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    muon = Muon(matrices)
    adam = torch.optim.AdamW(others, lr=plan.other_rate, betas=(0.9, 0.98), weight_decay=0.0)
    started, seen, smooth = time.monotonic(), 0, 0.0
    for step, batch in enumerate(itertools.islice(batches(tokenizer, plan), plan.steps)):
        wanted = batch.targets != IGNORED
        hidden = model.model(input_ids=batch.ids).last_hidden_state[wanted]
        each = functional.cross_entropy(model.lm_head(hidden), batch.targets[wanted], reduction="none")
        weights = batch.weights[wanted]
        loss = (each * weights).sum() / weights.sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        now = rate(step, plan)
        muon.step(plan.matrix_rate * now)
        adam.param_groups[0]["lr"] = plan.other_rate * now
        adam.step()
        adam.zero_grad(set_to_none=True)
        seen += batch.ids.numel()
        smooth = loss.item() if step == 0 else 0.9 * smooth + 0.1 * loss.item()
        if step % 25 == 0 or step == plan.steps - 1:
            spent = time.monotonic() - started
            print(f"step {step:5d}  loss {smooth:.4f}  {spent:6.0f} s  {seen / spent:6.0f} tokens/s", flush=True)
    return model


def write(
    model: Qwen3ForCausalLM, tokenizer: Tokenizer, plan: Plan, seconds: float, folder: Path, first: Path | None
) -> None:
    """Write the model as bfloat16 safetensors, its tokenizer and how it came to be."""
    folder.mkdir(parents=True, exist_ok=True)
    end = tokenizer.token_to_id(tokenization.TURN_END)
    model.generation_config = GenerationConfig(
        do_sample=False, eos_token_id=end, pad_token_id=tokenizer.token_to_id(tokenization.END_OF_TEXT)
    )
    model.to(torch.bfloat16).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # a bundle is read by other users than the one who made it
    tokenization.write(tokenizer, folder, longest=plan.longest)
    facts = {
        "plan": asdict(plan),
        "seconds": round(seconds),
        "parameters": sum(p.numel() for p in model.parameters()),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "torch": torch.__version__,
        "continues": json.loads((first / "training.json").read_text(encoding="utf-8")) if first else None,
    }
    (folder / "training.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Learn the tokenizer, train, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=Plan.steps)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--continue-from", type=Path, help="the folder of a first run")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    plan, first = Plan(steps=chosen.steps), chosen.continue_from
    started = time.monotonic()
    if first is None:
        tokenizer = tokenization.learn(plan.seed, cases=20_000, size=plan.vocabulary)
        model = build(plan, tokenizer)
    else:
        plan = continued(plan)
        tokenizer = Tokenizer.from_file(str(first / "tokenizer.json"))
        model = Qwen3ForCausalLM.from_pretrained(first, dtype=torch.float32)
    model = train(plan, model, tokenizer)
    write(model, tokenizer, plan, time.monotonic() - started, chosen.out, first)


if __name__ == "__main__":
    main()
