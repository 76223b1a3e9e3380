"""The console as a Django app: it brings templates, static files and template tags, and no models."""

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    """Named so that its templates and static files are found."""

    name = "console"
