"""Names the app for Django."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """The accounts ledger."""

    name = "appliance.accounts"
    label = "accounts"
