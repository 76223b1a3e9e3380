"""Names the app for Django."""

from django.apps import AppConfig


class ChangesConfig(AppConfig):
    """The changes ledger."""

    name = "appliance.changes"
    label = "changes"
