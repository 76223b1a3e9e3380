"""Names the app for Django."""

from django.apps import AppConfig


class ReviewsConfig(AppConfig):
    """The access reviews."""

    name = "appliance.reviews"
    label = "reviews"
