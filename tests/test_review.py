"The dictionary's editor: what its buttons do, what it never loses, and what it never overwrites."
import re
from dataclasses import replace

import pytest
from hypothesis import example, given, settings, strategies as st

from selective_unlearning.core.errors import DataError
from selective_unlearning.terms.dictionary import Dictionary
from selective_unlearning.terms.entries import KINDS, Entry
from selective_unlearning.terms.editor import DictionaryEditor

EVIL = "<script>alert('1')</script><img src=x onerror=alert(1)>"
NAMES = Dictionary([Entry("Harry", ["Jon", "Sam"], "person"), Entry("Potter", "Carter", "person"),
                    Entry("Hogwarts", "Ashford Hall", "place", count=7, why="the school"),
                    Entry("Sirius", "Jon", "person"), Entry("broom", "bicycle", "object")])


class Session:
    "A widget of an editor, its controls by their description."
    def __init__(self, dictionary):
        self.editor = dictionary if isinstance(dictionary, DictionaryEditor) else \
                      DictionaryEditor(dictionary)
        self.box = self.editor.widget()
        *_, self.status, self.view = self.box.children
        self.named = {}
        self._walk(self.box)

    def _walk(self, w):
        for c in getattr(w, "children", ()): self._walk(c)
        if getattr(w, "description", ""): self.named[w.description] = w

    def __getitem__(self, name): return self.named[name]
    def set(self, **values):
        for name,v in values.items(): self.named[name.replace("_", " ")].value = v
        return self
    def press(self, name):
        self.named[name].click()
        return re.sub("<[^>]+>", "", self.status.value)
    @property
    def now(self): return self.editor.dictionary
    @property
    def rows(self):
        body = self.view.value.rpartition("<tbody>")[2]
        return [re.findall(r'<td(?: dir="auto")?>(.*?)</td>', r, re.S)
                for r in re.findall(r"<tr>(.*?)</tr>", body, re.S)]


def many(n): return Dictionary(Entry(f"Wizard{i}", f"Name{i}") for i in range(1, n+1))


def test_fields_change_the_chosen_entry_and_nothing_else():
    s = Session(NAMES).set(entry=3)
    assert (s["term"].value, s["translations"].value, s["why"].value) == \
           ("Hogwarts", "Ashford Hall", "the school")
    s.set(translations="Elm Hall\n\n  Oak Hall ", kind="organisation", why="")
    s.set(term="Hogwarts School")
    new = Entry("Hogwarts School", ("Elm Hall", "Oak Hall"), "organisation", count=7)
    assert s.now == Dictionary([*NAMES.entries[:2], new, *NAMES.entries[3:]])
    assert len(s.editor._steps) == 5


def test_choosing_an_entry_changes_nothing():
    s = Session(NAMES)
    for n in (3, 1, 5, 2): s.set(entry=n)
    assert s.now == NAMES and len(s.editor._steps) == 1


def test_conflicts_are_shown_at_once():
    s = Session(NAMES)
    assert "0 errors, 2 warnings" in s.view.value
    assert "<mark>Sirius</mark>" in s.view.value
    s.set(entry=5, translations="Harry Smith")
    assert "1 error, 2 warnings" in s.view.value
    assert "contains the anchored term &#x27;Harry&#x27;" in s.view.value
    s.set(entry=4, translations="Max")
    assert "1 error, 0 warnings" in s.view.value and "<mark>Sirius</mark>" not in s.view.value


def test_drop_lock_and_undo():
    s = Session(NAMES).set(entry=2)
    assert "dropped &#x27;Potter&#x27;" in s.press("Drop")
    assert s.now == NAMES.drop("Potter") and s["entry"].label == "2. Hogwarts"
    s.press("Lock")
    assert s.now["Hogwarts"].locked and s["Lock"].description == "Unlock"
    s.press("Lock")
    assert not s.now["Hogwarts"].locked
    for _ in range(9): s.press("Undo")
    assert s.now == NAMES and s["Undo"].disabled


def test_accept_goes_through_every_entry():
    "Over two pages, from the middle, each entry is locked once; then nothing is left to accept."
    many = Dictionary([Entry(f"Term{i:02}", f"thing{i}", locked=i == 3) for i in range(25)])
    s, seen = Session(many), []
    s.set(entry=10)
    while not (said := s.press("Accept")).endswith("is left"): seen.append(s["entry"].value)
    assert said.startswith("accepted ") and all(e.locked for e in s.editor.dictionary)
    assert seen == [*range(11, 26), 1, 2, 3, *range(5, 10)]
    assert len(s.editor._steps) == 25  # each can be undone


def test_accept_under_a_filter():
    s = Session(NAMES).set(show="not locked", only_kind="person")
    assert "Harry" in s.press("Accept") and s["entry"].label == "2. Potter"
    s.press("Accept")
    assert s.press("Accept").endswith("; no entry shown here is left")
    assert not s.editor.dictionary["Hogwarts"].locked


def test_each_entry_is_shown_in_its_sentences():
    texts = [f"Harry saw Hogwarts {EVIL}. Then Harry's broom broke."]
    s = Session(DictionaryEditor(NAMES, texts))
    seen = s.box.children[3]
    def shown(term):
        s["entry"].value = next(n for label,n in s["entry"].options if label.endswith(term))
        return re.sub("<[^>]+>", " ", seen.value)
    assert "<script" not in seen.value and "<img" not in seen.value
    assert "broke" in shown("broom") and "Hogwarts" not in shown("broom")
    assert "Hogwarts" in shown("Harry") and "Ashford Hall" in shown("Harry")
    assert "not in the text" in shown("Sirius")
    s.set(entry=5, translations="cart")
    assert "cart" in seen.value
    assert Session(NAMES).box.children[3].value == ""


@pytest.mark.parametrize("texts", ["Harry ran.", ("Harry ran.",), iter(["Harry ran."])])
def test_texts_in_any_form(texts):
    assert "ran" in Session(DictionaryEditor(NAMES, texts)).box.children[3].value


def test_an_empty_term_can_be_mended_beside_texts():
    names = Dictionary([Entry("", "x"), *NAMES])
    s = Session(DictionaryEditor(names, ["Harry ran."]))
    assert "not in the text" in s.box.children[3].value
    s.set(term="Ron")
    assert s.editor.dictionary["Ron"] and s.press("Undo") == "" and s.editor.dictionary == names


def test_add_shows_the_new_entry():
    s = Session(many(45)).set(search="Wizard3", only_kind="other", show="not locked")
    s["new term"].value = "Dobby"
    assert "added" in s.press("Add")
    assert s["page"].value == 3 and s["entry"].label == "46. Dobby"
    assert s.rows[-1][1] == "<mark>Dobby</mark>" and "no translation" in s.view.value
    s.set(translations="Tam")
    assert s.now["Dobby"].translations == ("Tam",)


@pytest.mark.parametrize("term, error", [
    ("", "type the new term first"), ("Harry", "'Harry' is in the dictionary already")])
def test_what_cannot_be_added_is_said(term, error):
    s = Session(NAMES)
    s["new term"].value = term
    assert error in s.press("Add").replace("&#x27;", "'") and s.now == NAMES


def test_merge():
    s = Session(NAMES.add("Hogwart", "Elm Hall")).set(entry=6)
    s["merge into"].value = "Hogwarts"
    assert "merged" in s.press("Merge")
    both = replace(NAMES["Hogwarts"], translations=("Ashford Hall", "Elm Hall"))
    assert s.now["Hogwarts"] == both
    assert "Hogwart" not in s.now
    s["merge into"].value = "Hary"
    assert "did you mean" in s.press("Merge") and len(s.now) == 5


def test_a_term_listed_twice_is_edited_by_its_place():
    twice = Dictionary([Entry("Ron", "Ben"), Entry("Harry", "Jon"), Entry("Ron", "Ed")])
    s = Session(twice).set(entry=3, translations="Max")
    assert [e.translations[0] for e in s.now] == ["Ben", "Jon", "Max"]
    s.press("Drop")
    assert s.now == Dictionary(twice.entries[:2])
    s.press("Undo")
    s.set(entry=3)
    s["merge into"].value = "Ron"
    s.press("Merge")
    assert s.now["Ron"].translations == ("Ben", "Max") and len(s.now) == 2


def test_pages_and_filters():
    s = Session(many(45).change("Wizard7", kind="creature", locked=True))
    s["Next"].click()
    assert [r[0] for r in s.rows] == [str(n) for n in range(21, 41)]
    assert s["entry"].label == "21. Wizard21"
    s.set(translations="Anna")
    assert s["page"].value == 2 and s["entry"].label == "21. Wizard21"
    s.set(only_kind="creature")
    assert [r[0] for r in s.rows] == ["7"] and s["entry"].value == 7
    s.set(only_kind="all", show="locked")
    assert [r[0] for r in s.rows] == ["7"]
    s.set(show="all", search=" ANNA ")
    assert [r[0] for r in s.rows] == ["21"]
    s.set(search="nothing like it")
    assert s.rows == [] and s["entry"].value is None and s["Drop"].disabled
    assert "choose an entry first" in s.press("Drop")


def test_the_last_entry_of_the_last_page_may_go():
    s = Session(many(21))
    s["Next"].click()
    s.press("Drop")
    assert s["page"].value == 1 and len(s.rows) == 20 and len(s.now) == 20
    s = Session(many(1))
    s.press("Drop")
    assert len(s.now) == 0 and s["entry"].value is None


def test_two_views_and_python_show_one_state():
    editor = DictionaryEditor(NAMES)
    one, two = Session(editor), Session(editor)
    one.set(entry=5, translations="cart")
    assert "cart" in two.view.value
    editor.dictionary = editor.dictionary.drop("broom")
    assert len(one.rows) == len(two.rows) == 4
    assert editor._repr_html_() == editor.dictionary._repr_html_()


def test_nothing_from_the_entries_runs():
    s = Session(Dictionary([Entry(EVIL, EVIL+"x", why=EVIL)]))
    s["new term"].value = EVIL
    s.press("Add")
    for html in (s.view.value, s.status.value, s.editor._repr_html_()):
        assert "<script" not in html and "<img" not in html
    assert "&lt;script&gt;" in s.status.value and len(s.view.value.encode()) <= 65_536


# --- files --------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["names.json", "names.csv"])
def test_save_writes_what_is_shown(tmp_path, name):
    s = Session(NAMES.save(tmp_path/name)).set(entry=4, translations="Max")
    assert "not saved yet" in s.view.value
    assert "saved 5 terms" in s.press("Save") and "; saved<" in s.view.value
    assert Dictionary.load(tmp_path/name) == s.now
    s.set(translations="Tim").press("Save")
    assert Dictionary.load(tmp_path/name) == s.now


@pytest.mark.parametrize("spoil", [lambda p: Dictionary().save(p), lambda p: p.write_text("oops")])
def test_a_file_changed_by_another_is_left_alone(tmp_path, spoil):
    path = NAMES.save(tmp_path/"names.json")
    s = Session(path).set(entry=4, translations="Max")
    spoil(path)
    before = path.read_bytes()
    assert "was made or changed by somebody else" in s.press("Save")
    assert path.read_bytes() == before and s.now["Sirius"].translations == ("Max",)
    s.set(file=str(tmp_path/"mine.json")).press("Save")
    assert Dictionary.load(tmp_path/"mine.json") == s.now and path.read_bytes() == before


def test_another_file_is_never_overwritten(tmp_path):
    path = NAMES.save(tmp_path/"names.json")
    s = Session(many(3)).set(file=str(path))
    assert "not done" in s.press("Save") and Dictionary.load(path) == NAMES
    assert "no file yet" in s.set(file=" ").press("Save")


def test_a_home_folder_is_found_and_no_folder_is_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert DictionaryEditor(NAMES).save("~/d.json") == tmp_path/"d.json"
    assert Dictionary.load(tmp_path/"d.json") == NAMES
    with pytest.raises(DataError, match="is a folder"): DictionaryEditor(NAMES).save(tmp_path)


def test_what_csv_cannot_hold_stays_in_the_editor(tmp_path):
    s = Session(NAMES).set(entry=4, term="Harry", file=str(tmp_path/"names.csv"))
    assert "does not fit a CSV file" in s.press("Save")
    assert not (tmp_path/"names.csv").exists() and len(s.now) == 5
    s.set(file=str(tmp_path/"names.json")).press("Save")
    assert Dictionary.load(tmp_path/"names.json") == s.now


def test_a_failed_save_is_said(tmp_path, monkeypatch):
    s = Session(NAMES.save(tmp_path/"names.json")).set(entry=4, translations="Max")
    def full(*_): raise OSError(28, "No space left on device")
    monkeypatch.setattr("os.replace", full)
    assert "No space left on device" in s.press("Save")
    assert "not saved yet" in s.view.value and Dictionary.load(tmp_path/"names.json") == NAMES


def test_an_old_array_is_saved_as_json(tmp_path):
    import numpy as np
    np.save(tmp_path/"old.npy", np.array(['translations = {"Ron": "Ben"}', "oops"]))
    s = Session(tmp_path/"old.npy")
    assert "saved as .json or .csv" in s.press("Save")
    s.set(file=str(tmp_path/"new.json")).press("Save")
    assert Dictionary.load(tmp_path/"new.json") == Dictionary.from_mapping({"Ron": "Ben"})


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match="no such file"): DictionaryEditor(tmp_path/"names.json")


# --- any session --------------------------------------------------------------------------------

texts = st.sampled_from(["", "Harry", "harry", "Ron", "Jon\nSam", "a = b", "Émile", EVIL])
actions = st.one_of(
    st.tuples(st.sampled_from(["term", "translations", "why", "search", "new term", "merge into"]),
              texts),
    st.tuples(st.just("kind"), st.sampled_from(KINDS)),
    st.tuples(st.just("show"), st.sampled_from(["all", "with problems", "locked"])),
    st.tuples(st.sampled_from(["Lock", "Drop", "Merge", "Add", "Undo"]), st.none()))


@settings(max_examples=40, deadline=None)
@given(st.lists(actions, max_size=12))
@example([("term", "Jon\nSam"), ("term", "Jon\nSam")])
def test_whatever_is_done_can_be_undone(done):
    s = Session(NAMES)
    for name,value in done:
        if value is None: s.press(name)
        else: s[name].value = value
        shown = s.editor.dictionary.entries
        if n := s["entry"].value:
            assert s["term"].value == shown[n-1].term
            assert s["translations"].value.split("\n") == list(shown[n-1].translations or [""])
        assert f"<p>{len(shown)} terms" in s.view.value
    for _ in done: s.press("Undo")
    assert s.now == NAMES
