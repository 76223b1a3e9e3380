"""vLLM by itself, without a server: `.engine/bin/python offline.py FILE`, run by queue.py and never imported.

FILE names the model, its arguments and the requests. Each line on standard input is one run over all of them; the answer is
one line of JSON with the tokens written and the seconds taken. This is the engine's own offline batch throughput, on the
same prompts and with the same sampling as the batch that goes through the queue.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main(path: str) -> None:
    from vllm import LLM, SamplingParams  # noqa: PLC0415 - only where it is run

    given = json.loads(Path(path).read_text(encoding="utf-8"))
    engine = LLM(**given["engine"])
    sampling = SamplingParams(**given["sampling"])
    template = Path(given["template"]).read_text(encoding="utf-8")
    out = sys.__stdout__
    if out is None:
        raise RuntimeError("nowhere to say it")
    out.write("ready\n")
    out.flush()
    for _ in sys.stdin:
        began = time.perf_counter()
        answers = engine.chat(given["conversations"], sampling, use_tqdm=False, chat_template=template)
        seconds = time.perf_counter() - began
        tokens = sum(len(answer.outputs[0].token_ids) for answer in answers)
        out.write(json.dumps({"tokens": tokens, "seconds": seconds}) + "\n")
        out.flush()


if __name__ == "__main__":
    main(sys.argv[1])
