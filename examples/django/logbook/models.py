from django.db import models


class Entry(models.Model):
    """Something that somebody saw from the harbour wall."""

    text = models.CharField(max_length=200)
    seen_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-seen_at", "-id"]

    def __str__(self) -> str:
        return self.text
