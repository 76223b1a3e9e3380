"""Names the app for Django."""

from django.apps import AppConfig


class QueueConfig(AppConfig):
    """Durable jobs."""

    name = "inference.queue"
    label = "queue"
