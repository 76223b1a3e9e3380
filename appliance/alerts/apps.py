"""Names the app for Django."""

from django.apps import AppConfig


class AlertsConfig(AppConfig):
    """The ledger of what is wrong now."""

    name = "appliance.alerts"
    label = "alerts"
