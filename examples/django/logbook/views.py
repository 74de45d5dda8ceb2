import logging

from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from logbook.forms import EntryForm
from logbook.models import Entry

log = logging.getLogger(__name__)

# The page shows this many of the newest entries.
SHOWN = 50


@require_http_methods(["GET", "HEAD", "POST"])
def entries(request):
    """Lists the newest entries; a POST adds one."""
    form = EntryForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        entry = form.save()
        log.info("entry %s was written", entry.pk, extra={"fields": {"entry": entry.pk, "length": len(entry.text)}})
        return redirect("entries")
    page = {"form": form, "entries": Entry.objects.all()[:SHOWN], "count": Entry.objects.count()}
    return render(request, "logbook/entries.html", page, status=400 if form.errors else 200)
