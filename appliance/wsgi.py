"""The console's door, for gunicorn's threaded worker."""

import os
from importlib import import_module

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "appliance.settings")
application = get_wsgi_application()
# The Celery application of this process, by name: without it a bell would ring at a broker that is not ours.
import_module("appliance.celery")
