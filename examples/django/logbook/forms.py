from django import forms

from logbook.models import Entry


class EntryForm(forms.ModelForm):
    class Meta:
        model = Entry
        fields = ["text"]
        widgets = {"text": forms.TextInput(attrs={"placeholder": "What do you see?", "autofocus": True})}
        labels = {"text": ""}
