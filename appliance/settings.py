"""Django's settings, over the one typed Site file; fails closed.

Everything that differs between boxes is in site.toml (read by provisioning.site_config, so the install kit and Django
agree) or in a secret file. There is no second settings module and no switch that turns a control off.
"""

from __future__ import annotations

import os
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured

from provisioning import site_config

BASE_DIR = Path(__file__).resolve().parent.parent
try:
    SITE = site_config.current()
    SECRET_KEY = SITE.secret("django-secret-key").decode("ascii")
except site_config.SiteError as error:
    raise ImproperlyConfigured(str(error)) from error

DEBUG = False
ALLOWED_HOSTS = list(SITE.console.allowed_hosts)
ROOT_URLCONF = "appliance.urls"
WSGI_APPLICATION = "appliance.wsgi.application"

INSTALLED_APPS = [
    # First, so that its refusals stand before Django's createsuperuser and changepassword.
    "appliance.accounts",
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "django_otp",
    "appliance.audit",
    "appliance.keyring",
    "appliance.alerts",
    "appliance.changes",
    "appliance.reviews",
    "appliance.emergency",
    "inference.policy",
    "inference.telemetry",
    "inference.clients",
    "inference.releases",
    "inference.queue",
    "inference",
    "console",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "console.middleware.SecurityHeaders",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "console.middleware.SessionLimits",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "console.context.shell",
            ],
        },
    },
]

DB_ROLE = os.environ.get("ISOWARD_DB_ROLE", SITE.postgres.app_role)
if DB_ROLE not in {SITE.postgres.app_role, SITE.postgres.owner_role, SITE.postgres.sealer_role}:
    msg = f"ISOWARD_DB_ROLE names no role of this site: {DB_ROLE}"
    raise ImproperlyConfigured(msg)
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": str(SITE.postgres.socket_dir),
        "PORT": str(SITE.postgres.port),
        "NAME": SITE.postgres.database,
        "USER": DB_ROLE,
        # No ATOMIC_REQUESTS: a refusal must not roll back the lockout counter or the record of itself.
        "ATOMIC_REQUESTS": False,
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "OPTIONS": {"connect_timeout": 3, "options": "-c statement_timeout=30000 -c lock_timeout=10000"},
    },
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "accounts.Person"
AUTHENTICATION_BACKENDS = ["appliance.accounts.backends.PersonBackend"]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.ScryptPasswordHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
]
LOGIN_URL = "sign-in"

SESSION_ENGINE = "appliance.accounts.sessions"
SESSION_COOKIE_NAME = "isoward_session"
SESSION_COOKIE_AGE = 12 * 3600
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Strict"
SESSION_COOKIE_SECURE = SITE.console.tls
CSRF_COOKIE_NAME = "isoward_csrf"
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Strict"
CSRF_COOKIE_SECURE = SITE.console.tls
CSRF_FAILURE_VIEW = "console.pages.errors.csrf_failure"
SECURE_HSTS_SECONDS = 31536000 if SITE.console.tls else 0
SECURE_CONTENT_TYPE_NOSNIFF = True
# Not no-referrer: browsers then send `Origin: null` with our own forms, which the CSRF check must refuse.
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_048_576

USE_TZ = True
TIME_ZONE = SITE.timezone
USE_I18N = True
LANGUAGE_CODE = "en"

STATIC_URL = "static/"
STATIC_ROOT = SITE.state_dir / "static"
# The evaluation console serves its own files; in production nginx does, from the same folder.
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

CELERY_BROKER_URL = f"redis+socket://{SITE.redis_socket}"
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_DEFAULT_QUEUE = "maintenance"
CELERY_TASK_ROUTES = {
    "inference.queue.tasks.run": {"queue": "jobs"},
    # Minutes for a large file: never among the chores, whose sweeps find what the dead left behind.
    "inference.api.expanding.expand": {"queue": "batches"},
    "inference.queue.tasks.run_slice": {"queue": "slices"},
    "inference.releases.tasks.*": {"queue": "imports"},
}
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"socket_timeout": 3, "socket_connect_timeout": 2, "visibility_timeout": 600}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "appliance.logs.JsonFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
    "loggers": {
        # Django logs request paths and tracebacks with local values; the path may hold what somebody typed.
        "django.request": {"level": "ERROR"},
        "django.security": {"level": "ERROR"},
    },
}
