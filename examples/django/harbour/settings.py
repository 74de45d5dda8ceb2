"""Settings for Cloud Run and for a laptop; what differs comes from the environment.

| variable | meaning | without it |
| --- | --- | --- |
| DATABASE_URL | where the rows are | a SQLite file beside the code |
| SECRET_KEY_NAME | the secret that holds Django's key | `django-secret-key` |
| ALLOWED_HOSTS | host names, separated by commas | any: Cloud Run passes on only what is the service's |
| DEBUG | `1` for Django's debug pages | off |
"""

import os
from pathlib import Path

import dj_database_url
import google.auth

from harbour import secrets

BASE_DIR = Path(__file__).resolve().parent.parent

_, PROJECT_ID = google.auth.default()
SECRET_KEY = secrets.read(os.environ.get("SECRET_KEY_NAME", "django-secret-key"))
DEBUG = os.environ.get("DEBUG") == "1"
ALLOWED_HOSTS = os.environ.get("ALLOWED_HOSTS", "*").split(",")

# TLS ends in front of the container, which is told so by this header.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

INSTALLED_APPS = ["django.contrib.contenttypes", "logbook"]
MIDDLEWARE = [
    "harbour.logs.TraceMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
]
ROOT_URLCONF = "harbour.urls"
WSGI_APPLICATION = "harbour.wsgi.application"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]

# Over the Cloud SQL socket the host is percent-encoded: postgres://USER:PASSWORD@%2Fcloudsql%2FP%3AR%3AI/NAME.
# A connection is kept for ten minutes and checked before it is used again, because a database may restart.
DATABASES = {
    "default": dj_database_url.config(
        default=f"sqlite:///{BASE_DIR / 'db.sqlite3'}",
        conn_max_age=600,
        conn_health_checks=True,
    )
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TIME_ZONE = "UTC"
USE_TZ = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "harbour.logs.JsonFormatter"}},
    "handlers": {"stdout": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout", "formatter": "json"}},
    "root": {"handlers": ["stdout"], "level": os.environ.get("LOG_LEVEL", "INFO")},
    # Without this, Django adds a handler of its own, and lines of its server appear twice.
    "loggers": {"django": {"handlers": [], "propagate": True}},
}
