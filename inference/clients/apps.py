"""Names the app for Django."""

from django.apps import AppConfig


class ClientsConfig(AppConfig):
    """Clinical applications and their keys."""

    name = "inference.clients"
    label = "clients"
