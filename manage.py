#!/usr/bin/env python
"""The box's commands; `manage.py help` lists them."""

import os
import sys
from importlib import import_module

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "appliance.settings")
    from django.core.management import execute_from_command_line

    # The Celery application of this process: without it a command's bell would ring at a broker that is not ours.
    import_module("appliance.celery")
    execute_from_command_line(sys.argv)
