"""`python -m tests.bench.movement BATCH COUNT`: what it costs to move jobs through the queue, without doing them.

The worker's own services on a batch that waits: lines are claimed, their intents and outcomes recorded and the rows moved,
in groups as large as what a feeder claims, each group durable. The engine, the policy and the prompt are left out; opening the sealed
payload and sealing a result are not. Prints the CPU seconds of this process.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace

import django

RESULT = b'{"text": "' + b"The patient is well. " * 20 + b'"}'


def main(batch: str, count: int) -> None:
    django.setup()
    from appliance.audit.actions import Action  # noqa: PLC0415 - Django first
    from appliance.audit.entry import Entry, now_us  # noqa: PLC0415 - as above
    from appliance.audit.services import OwnShard  # noqa: PLC0415 - as above
    from inference.queue import rules, services  # noqa: PLC0415 - as above

    shard, after, moved = OwnShard("bench"), 0, 0
    began, cpu = time.perf_counter(), time.process_time()
    while moved < count:
        held = services.claim_lines(worker="bench", batch=batch, after=after, most=rules.CLAIM)
        if not held:
            break
        after = held[-1].line
        intents = [
            Entry(now_us(), "intent", Action.INFERENCE_REQUESTED.value, "bench", "started", request_id=each.ref)
            for each in held
        ]
        ends = [
            replace(entry, kind="outcome", action=Action.INFERENCE_ANSWERED.value, outcome="ok") for entry in intents
        ]
        opening = [services.Step(each, entry) for each, entry in zip(held, intents, strict=True)]
        ending = [services.Step(each, entry, result=RESULT) for each, entry in zip(held, ends, strict=True)]
        services.settle(actor="bench", steps=opening, shard=shard)
        moved += len(services.settle(actor="bench", steps=ending, shard=shard))
    taken = {"moved": moved, "seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    sys.stdout.write(json.dumps(taken) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
