"""Measure the stored evaluation model on cases that training never saw, and write the figures down.

Needs the packages of ``train-requirements.txt``; the checks themselves are in ``checker`` and need nothing.

    OMP_NUM_THREADS=2 /tmp/trainenv/bin/python -m provisioning.evaluation.measure --model var/evaluation-model \
        --document docs/evaluation-model.md

Three sets, all held out, greedy decoding on the stored bfloat16 weights:

- ``known``: new combinations of names and codes that training knows. The requirement is on this set.
- ``unseen``: real diagnoses, codes, drugs and services that no training case holds.
- ``made_up``: every name and code invented for the case.
"""

import argparse
import json
import re
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from transformers import AutoTokenizer, Qwen3ForCausalLM

from provisioning.evaluation import checker, clinical
from provisioning.evaluation.clinical import Case, Words

SEED: Final = 7
REQUIRED: Final = 0.97
SETS: Final = ((Words.KNOWN, 480), (Words.UNSEEN, 240), (Words.MADE_UP, 240))
ROWS: Final = 48
LONGEST_ANSWER: Final = 480
BEGIN: Final = "<!-- measured: written by provisioning/evaluation/measure.py -->"
END: Final = "<!-- end of measured -->"


@dataclass(frozen=True)
class Outcome:
    """One case, what the model answered, and the verdict."""

    case: Case
    answer: str
    verdict: checker.Verdict

    @property
    def right_level(self) -> bool:
        """Say whether the first line is the expected urgency."""
        return self.answer.split("\n", 1)[0] == self.case.answer.split("\n", 1)[0]


class Model:
    """The stored model, answering as the engine does."""

    def __init__(self, folder: Path) -> None:
        """Load weights as they are stored, and the one chat template."""
        self.tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        self.weights = Qwen3ForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()

    def answers(self, cases: Sequence[Case]) -> list[str]:
        """Answer every case; cases of like length go together."""
        prompts = [
            self.tokenizer.apply_chat_template(
                clinical.messages(case.task, case.record), add_generation_prompt=True, tokenize=False
            )
            for case in cases
        ]
        order = sorted(range(len(cases)), key=lambda index: len(prompts[index]))
        found: dict[int, str] = {}
        for start in range(0, len(order), ROWS):
            chosen = order[start : start + ROWS]
            asked = self.tokenizer(
                [prompts[index] for index in chosen], return_tensors="pt", padding=True, add_special_tokens=False
            )
            with torch.inference_mode():
                given = self.weights.generate(
                    input_ids=asked["input_ids"],
                    attention_mask=asked["attention_mask"],
                    max_new_tokens=LONGEST_ANSWER,
                    do_sample=False,
                )
            texts = self.tokenizer.batch_decode(given[:, asked["input_ids"].shape[1] :], skip_special_tokens=True)
            found.update(zip(chosen, texts, strict=True))
        return [found[index] for index in range(len(cases))]


def summary(outcomes: Sequence[Outcome]) -> dict[str, object]:
    """Count, over the cases that have a class of fact, those that carry all of it."""
    have: dict[str, list[bool]] = defaultdict(list)
    for outcome in outcomes:
        for name, present in outcome.verdict.present.items():
            have[name].append(present)
    urgent = [outcome.right_level for outcome in outcomes if outcome.case.task == "urgency_classification"]
    return {
        "cases": len(outcomes),
        "share": {name: round(sum(have[name]) / len(have[name]), 4) for name in checker.CLASSES if have[name]},
        "cases_with": {name: len(have[name]) for name in checker.CLASSES if have[name]},
        "all_facts": share(not o.verdict.missing for o in outcomes),
        "cases_with_invented_code": sum(bool(o.verdict.invented) for o in outcomes),
        "same_as_reference": share(o.answer == o.case.answer for o in outcomes),
        **({"urgency_level_right": share(urgent)} if urgent else {}),
    }


def share(flags: Iterable[bool]) -> float:
    """Give the share of true flags."""
    found = list(flags)
    return round(sum(found) / len(found), 4)


def measure(model: Model) -> tuple[dict[str, object], list[Outcome]]:
    """Answer the three sets and sum them up by task and by language."""
    report: dict[str, object] = {
        "seed": SEED,
        "required": REQUIRED,
        "decoding": "greedy",
        "weights": "bfloat16, as stored",
    }
    failures: list[Outcome] = []
    for words, count in SETS:
        started = time.monotonic()
        cases = clinical.measuring_cases(SEED, count, words)
        outcomes = [Outcome(c, a, checker.check(c.record, a)) for c, a in zip(cases, model.answers(cases), strict=True)]
        report[words.value] = {
            "overall": summary(outcomes),
            "tasks": {task: summary([o for o in outcomes if o.case.task == task]) for task in clinical.TASKS},
            "spanish": summary([o for o in outcomes if o.case.record.get("language") == "es"]),
            "seconds": round(time.monotonic() - started),
        }
        failures += [o for o in outcomes if not o.verdict.passed]
    return report, failures


def passes(report: dict[str, object]) -> bool:
    """Say whether the known set meets the requirement."""
    known = report[Words.KNOWN.value]
    if not isinstance(known, dict):
        raise TypeError(known)
    overall = known["overall"]
    return all(part >= REQUIRED for part in overall["share"].values()) and overall["cases_with_invented_code"] == 0


def table(report: dict[str, object]) -> str:
    """Write the figures as Markdown tables."""
    parts: list[str] = []
    for words, _ in SETS:
        part = report[words.value]
        if not isinstance(part, dict):
            raise TypeError(part)
        parts += [
            f"\n### Set `{words.value}`: {part['overall']['cases']} cases, seed {report['seed']}\n",
            "| | cases | age | diagnoses | medications | codes | all facts | invented codes | urgency right |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        rows = {**part["tasks"], "answers in Spanish": part["spanish"], "**all**": part["overall"]}
        for name, row in rows.items():
            shares = [percent(row["share"].get(field)) for field in checker.CLASSES]
            level = percent(row.get("urgency_level_right"))
            cells = [
                name,
                str(row["cases"]),
                *shares,
                percent(row["all_facts"]),
                str(row["cases_with_invented_code"]),
                level,
            ]
            parts.append(f"| {' | '.join(cells)} |")
    return "\n".join(parts) + "\n"


def shape(folder: Path) -> str:
    """Write what the model is and how long it took, from the files beside the weights."""
    training, config = (json.loads((folder / f"{name}.json").read_text()) for name in ("training", "config"))
    runs = [training["continues"], training] if training.get("continues") else [training]
    heads, size = config["num_attention_heads"], config["head_dim"]
    rows = {
        "architecture": f"`{config['architectures'][0]}`, {config['num_hidden_layers']} layers, hidden {config['hidden_size']}, "
        f"{heads} heads of {size}, tied embeddings, {config['vocab_size']} tokens, positions up to {config['max_position_embeddings']}",
        "parameters": f"{training['parameters']:,}, bfloat16, {(folder / 'model.safetensors').stat().st_size / 1e6:.1f} MB",
        "training": "; then ".join(
            f"seed {run['plan']['seed']}, {run['plan']['steps']} steps of at most {run['plan']['tokens_per_step']} tokens, "
            f"{run['seconds'] / 60:.0f} minutes on {run['machine']}"
            for run in runs
        ),
        "measuring": f"seed {SEED}, {', '.join(f'{count} `{words}`' for words, count in SETS)} cases",
    }
    return "\n".join(("| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows.items()))) + "\n"


def percent(value: float | None) -> str:
    """Write a share as a percentage; a dash where there is nothing to count."""
    return "–" if value is None else f"{100 * value:.1f} %"


def into_document(document: Path, text: str) -> None:
    """Replace what stands between the two marks."""
    whole = document.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    document.write_text(pattern.sub(lambda _: f"{BEGIN}\n{text}\n{END}", whole), encoding="utf-8")


def main() -> None:
    """Measure, write the report beside the model, and the tables into the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--document", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    report, failures = measure(Model(chosen.model))
    report["met"] = passes(report)
    (chosen.model / "measured.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if chosen.document:
        into_document(chosen.document, shape(chosen.model) + table(report))
    for failure in failures[:40]:
        print(f"{failure.case.task}: missing {failure.verdict.missing}, invented {failure.verdict.invented}")
        print(f"  {failure.case.user}\n  {failure.answer!r}")
    print(table(report))
    print("requirement met" if report["met"] else "REQUIREMENT NOT MET")


if __name__ == "__main__":
    main()
