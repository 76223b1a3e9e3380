"""The evaluation model's tokenizer: byte-level BPE over the generator's text, cut so that facts can be copied.

- Each digit is a token, so a code that was never seen is still a row of known tokens.
- A word takes the space after it, not the one before. A value of the record begins after a quotation mark and an
  answer's copy of it after a space; this way both are cut alike.
- The quotation marks and commas between JSON values are tokens of their own.

Needs the packages of ``train-requirements.txt``.
"""

import itertools
import json
from pathlib import Path
from typing import Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from provisioning.evaluation import clinical

END_OF_TEXT: Final = "<|endoftext|>"
TURN_START: Final = "<|im_start|>"
TURN_END: Final = "<|im_end|>"
SPECIAL: Final = (END_OF_TEXT, TURN_START, TURN_END)

CUTS: Final = (
    r'\{"|"\], "|"\]\}|"\}|": \["|": "|": |", "|, "'  # JSON between values
    r"|\p{L}+ ?"
    r"|\p{N}"
    r"|[^\s\p{L}\p{N}] ?"
    r"|\n+|\s"
)

# A plain loop: what a message says never changes how it is framed.
CHAT_TEMPLATE: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def prompt(case: clinical.Case) -> str:
    """Frame a case as the chat template does."""
    turns = "".join(
        f"{TURN_START}{m['role']}\n{m['content']}{TURN_END}\n" for m in clinical.messages(case.task, case.record)
    )
    return f"{turns}{TURN_START}assistant\n"


def learn(seed: int, *, cases: int, size: int) -> Tokenizer:
    """Learn the merges from the generator's text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CUTS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ],
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[AddedToken(name, special=True, normalized=False) for name in SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    drawn = itertools.islice(clinical.training_cases(seed), cases)
    forms = [f"system\nuser\nassistant\n{form.instruction}" for form in clinical.TASKS.values()]
    tokenizer.train_from_iterator(itertools.chain(forms, (f"{case.user}\n{case.answer}" for case in drawn)), trainer)
    return tokenizer


def write(tokenizer: Tokenizer, folder: Path, *, longest: int) -> None:
    """Write the tokenizer, its settings and the chat template, each in one place."""
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": longest,
        "bos_token": None,
        "eos_token": TURN_END,
        "pad_token": END_OF_TEXT,
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "add_bos_token": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")
