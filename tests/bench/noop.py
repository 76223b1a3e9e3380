"""The queue it is compared with: Celery as everyone uses it, one task for each job, and the task does nothing.

`python -m tests.bench.noop SOCKET COUNT FILE` hands in COUNT tasks, each with the text of FILE as its argument, and prints
seconds and CPU seconds. The worker is `celery -A tests.bench.noop worker`. Redis keeps nothing on disk here, so that side
promises less than ours: what Celery would lose with its broker, we have committed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from celery import Celery

BROKER_KEY = "BENCH_BROKER"
QUEUE = "bench-noop"

app = Celery("noop", broker=f"redis+socket://{os.environ.get(BROKER_KEY, '')}")
app.conf.update(task_ignore_result=True, task_default_queue=QUEUE, worker_prefetch_multiplier=4)


@app.task(name="noop")
def nothing(_request: str) -> None:
    """What a job costs before anything is done for it."""


def hand_in(count: int, request: str) -> dict[str, float]:
    began, cpu = time.perf_counter(), time.process_time()
    with app.producer_pool.acquire(block=True) as producer:  # kept: a connection for each would be unfair
        for _ in range(count):
            nothing.apply_async((request,), producer=producer)
    return {"seconds": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}


if __name__ == "__main__":
    app.conf.update(broker_url=f"redis+socket://{sys.argv[1]}")
    hand_in(50, "")  # the first calls make the connection and import what they need
    app.control.purge()
    sys.stdout.write(json.dumps(hand_in(int(sys.argv[2]), Path(sys.argv[3]).read_text(encoding="utf-8"))) + "\n")
