"""The pages there are."""

from django.http import HttpResponse
from django.urls import path

from logbook import views


def healthz(_request):
    """Answers probes. It asks nobody else: a database that is away is no reason to restart the container."""
    return HttpResponse("OK", content_type="text/plain")


urlpatterns = [
    path("", views.entries, name="entries"),
    path("healthz/", healthz, name="healthz"),
]
