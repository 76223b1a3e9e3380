"""Names the model service for Django, so that its commands are found."""

from django.apps import AppConfig


class InferenceConfig(AppConfig):
    """The model service."""

    name = "inference"
    label = "inference"
