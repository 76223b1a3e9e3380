"""Names the app for Django and declares the one kind of change it carries out."""

from django.apps import AppConfig

FACTS = frozenset({"fault", "action", "was"})


class TelemetryConfig(AppConfig):
    """The GPUs' pulse."""

    name = "inference.telemetry"
    label = "telemetry"

    def ready(self) -> None:
        from appliance.changes import kinds  # noqa: PLC0415 - Django is ready only now

        executor = "inference.telemetry.services.set_policy"
        kinds.register(kinds.Kind("gpu.fault_policy", "Set what is done about a GPU fault", FACTS, executor))
