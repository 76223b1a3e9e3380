"""Names the app for Django."""

from django.apps import AppConfig
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from appliance.accounts import rules
from appliance.accounts.errors import DirectoryRolesError


class AccountsConfig(AppConfig):
    """The accounts ledger."""

    name = "appliance.accounts"
    label = "accounts"

    def ready(self) -> None:
        """Hold the site's groups to the roles there are; a process with a mapping that cannot stand does not start."""
        site = settings.SITE
        try:
            rules.check_directory_roles(site.directory.roles if site.directory else (), "directory")
            rules.check_directory_roles(site.oidc.roles if site.oidc else (), "oidc")
        except DirectoryRolesError as error:
            raise ImproperlyConfigured(str(error)) from error
