"""Names the app for Django."""

from django.apps import AppConfig


class PolicyConfig(AppConfig):
    """Tasks, purposes and what each may carry."""

    name = "inference.policy"
    label = "policy"
