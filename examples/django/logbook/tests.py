from django.test import TestCase

from logbook.models import Entry


class EntriesTest(TestCase):
    def test_an_entry_is_listed(self):
        response = self.client.post("/", {"text": "a seal"}, follow=True)
        self.assertContains(response, "a seal")
        self.assertEqual(Entry.objects.count(), 1)

    def test_an_empty_entry_is_refused(self):
        response = self.client.post("/", {"text": ""})
        self.assertEqual(response.status_code, 400)
        self.assertEqual(Entry.objects.count(), 0)

    def test_markup_is_shown_as_text(self):
        Entry.objects.create(text="<script>")
        self.assertContains(self.client.get("/"), "&lt;script&gt;")

    def test_probes_are_answered_without_a_database_query(self):
        with self.assertNumQueries(0):
            self.assertEqual(self.client.get("/healthz/").status_code, 200)
