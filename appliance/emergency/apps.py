"""Names the app for Django."""

from django.apps import AppConfig


class EmergencyConfig(AppConfig):
    """The sealed account, and each time it was opened."""

    name = "appliance.emergency"
    label = "emergency"
