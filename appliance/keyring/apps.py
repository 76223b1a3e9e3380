"""Names the app for Django."""

from django.apps import AppConfig


class KeyringConfig(AppConfig):
    """The keyring ledger."""

    name = "appliance.keyring"
    label = "keyring"
