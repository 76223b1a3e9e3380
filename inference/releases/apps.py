"""Names the app for Django and declares the two kinds of change it carries out."""

from django.apps import AppConfig

FACTS = frozenset(
    {
        "release",
        "bundle",
        "version",
        "files",
        "engine",
        "arguments",
        "environment",
        "served_model_name",
        "routes",
        "capabilities",
        "evaluation",
        "slot_rule",
    }
)


class ReleasesConfig(AppConfig):
    """Releases, imports and deployments."""

    name = "inference.releases"
    label = "releases"

    def ready(self) -> None:
        from appliance.changes import kinds  # noqa: PLC0415 - Django is ready only now

        executor = "inference.releases.services.activate"
        kinds.register(kinds.Kind("release.activate", "Start serving a release", FACTS, executor))
        kinds.register(kinds.Kind("release.roll_back", "Go back to an earlier release", FACTS, executor))
