from __future__ import annotations

from segnext.app.keys import read_keys
from segnext.app.schema import VERBS
from tests.docs.settings_page import PAGE, settings_page


def test_the_reference_of_settings_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == settings_page(), "write it anew: python -m tests.docs.settings_page"


def test_it_names_every_setting_that_a_verb_reads_and_explains_it() -> None:
    rows = [line.split(" | ") for line in settings_page().splitlines() if line.startswith("| `")]
    explained = {row[0].strip("| `") for row in rows if len(row[2]) > 5}
    wanted = {key.name for schema in VERBS.values() for key in read_keys(schema) if not key.is_group}
    assert wanted <= explained
