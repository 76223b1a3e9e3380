"""Names the app for Django."""

from django.apps import AppConfig


class TelemetryConfig(AppConfig):
    """The GPUs' pulse."""

    name = "inference.telemetry"
    label = "telemetry"
