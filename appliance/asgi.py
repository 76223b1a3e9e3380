"""The LAN API's door: Django is set up for its models, then the raw ASGI application answers every request."""

import os
from importlib import import_module

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "appliance.settings")
django.setup()
# The Celery application of this process, by name: without it a bell would ring at a broker that is not ours.
import_module("appliance.celery")

from inference.api.app import application  # noqa: E402 - Django's apps must be loaded first

__all__ = ["application"]
