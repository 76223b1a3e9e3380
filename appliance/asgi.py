"""The LAN API's door: Django is set up for its models, then the raw ASGI application answers every request."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "appliance.settings")
django.setup()

from inference.api.app import application  # noqa: E402 - Django's apps must be loaded first

__all__ = ["application"]
