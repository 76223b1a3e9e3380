"""The Celery application, and the whole beat schedule in one list.

Celery is the bell, never the truth: every task finds its work in PostgreSQL, and the sweeps below find what a lost
message left behind.
"""

from __future__ import annotations

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "appliance.settings")

app = Celery("isoward")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(
    [
        "inference.clients",
        "inference.queue",
        "inference.releases",
        "inference.telemetry",
        "appliance.alerts",
        "appliance.changes",
        "appliance.emergency",
        "appliance.reviews",
    ]
)

# The door's own work for a worker: what a batch's lines may hold is decided there.
app.autodiscover_tasks(["inference.api"], related_name="expanding")

# name, task, every how many seconds
SCHEDULE = [
    ("sweep jobs", "inference.queue.tasks.sweep", 3.0),
    ("sweep unread batches", "inference.api.expanding.sweep", 3.0),
    ("tell webhooks", "inference.queue.tasks.tell", 3.0),
    ("forget what is old", "inference.queue.tasks.forget", 60.0),
    ("close unanswered intents", "inference.queue.tasks.close_unanswered", 300.0),
    ("watch refused attempts", "inference.clients.tasks.watch_attempts", 15.0),
    ("sweep imports", "inference.releases.tasks.sweep", 15.0),
    ("close the sealed account", "appliance.emergency.tasks.sweep", 15.0),
    ("watch access reviews", "appliance.reviews.tasks.watch", 3600.0),
    ("tell of alerts", "appliance.alerts.tasks.deliver", 3.0),
    ("forget what was told", "appliance.alerts.tasks.forget", 3600.0),
    ("average GPU samples", "inference.telemetry.tasks.roll_up", 60.0),
    ("watch the sampler", "inference.telemetry.tasks.watch_sampler", 10.0),
    ("execute approved changes", "appliance.changes.tasks.execute_approved", 5.0),
]
app.conf.beat_schedule = {name: {"task": task, "schedule": every} for name, task, every in SCHEDULE}
