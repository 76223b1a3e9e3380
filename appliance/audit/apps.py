"""Names the app for Django."""

from django.apps import AppConfig


class AuditConfig(AppConfig):
    """The audit ledger."""

    name = "appliance.audit"
    label = "audit"
