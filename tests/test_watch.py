"A watched run ends when the text is forgotten, and says so; else it uses up its epochs."
import random

import pytest
from safetensors.torch import load_file

from selective_unlearning.core.errors import DataError
from selective_unlearning.core.files import data_path, read_json, read_text, write_jsonl
from selective_unlearning.evaluation import watched
from selective_unlearning.evaluation.utility import read_neighbours
from selective_unlearning.job import watching
from selective_unlearning.job.run import run
from selective_unlearning.job.run_folder import Run
from selective_unlearning.job.settings import RunConfig, configure
from selective_unlearning.models.sampling import opener_ids, sample_texts
from selective_unlearning.terms.dictionary import Dictionary
from selective_unlearning.terms.entries import Entry
from tiny import settings


def job(tmp_path, **changes):
    "A small job that is watched, with neighbours that say which half they belong to."
    long = {"watch.steps": 2, "unlearn.epochs": 9, "unlearn.lr": 1e-3}
    config = settings(tmp_path, **long | changes)
    near = [dict(prompt="The sea is", answers=[" black"], half=half) for half in ("tune", "test")]
    write_jsonl(tmp_path/"neighbours.jsonl", near)
    return config


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))


@pytest.fixture
def looks(monkeypatch):
    "Measures in the order of their looks: all is left, then less, then as good as nothing."
    seen = []
    def quick(*args):
        def measure(model):
            left = (1., .5, .05)[min(len(seen), 2)]
            seen.append(left)
            return dict(familiarity=left, low=left-.04, high=left+.04, utility=.5)
        return measure
    monkeypatch.setattr(watching, "recollections", lambda *args, **kw: [])
    monkeypatch.setattr(watching, "compare", lambda *args: watched.Known([], [], []))
    monkeypatch.setattr(watching, "quick_measure", quick)
    return seen


def test_ends_when_forgotten(tmp_path, looks):
    config = job(tmp_path)
    r = run(config, tmp_path/"run")
    watch = read_json(r.path("unlearned")/"watch.json")
    assert [p["step"] for p in watch["path"]] == [0, 2, 4] and watch["forgotten"]
    assert read_json(r.path("unlearned")/"loss.json")[-1]["step"] == 4 < watch["most"]
    assert r.results["steps"]["unlearned"] == 4            # few, but enough: there is no note
    assert "The reinforced model has 1 step" in repr(r.report)
    assert "The unlearned model has 4 steps" not in repr(r.report)
    said = f"Training ended when the text was forgotten, after 4 of at most {watch['most']} steps"
    assert repr(r.report).startswith(said) and said in read_text(tmp_path/"run"/"report.html")
    before, n = r.manifest["steps"], len(looks)
    assert run(config, tmp_path/"run").manifest["steps"] == before and len(looks) == n


def test_stopped_after_its_end(tmp_path, looks, monkeypatch):
    "Killed between the last step and saving: nothing more is trained, and nothing is lost."
    config = job(tmp_path)
    whole = run(config, tmp_path/"whole").path("unlearned")
    looks.clear()
    def killed(*args): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        real = Run.save
        m.setattr(Run, "save", lambda self, reader, folder:
                  killed() if reader.adapter == "unlearned" else real(self, reader, folder))
        with pytest.raises(KeyboardInterrupt): run(config, tmp_path/"cut")
    cut = run(config, tmp_path/"cut").path("unlearned")
    for name in ("watch.json", "loss.json"): assert read_json(cut/name) == read_json(whole/name)
    assert looks == [1., .5, .05]
    a, b = (load_file(f/"adapter_model.safetensors") for f in (whole, cut))
    assert all(w.equal(b[k]) for k,w in a.items())


def test_budget_used_up(tmp_path, looks, monkeypatch):
    monkeypatch.setattr(watching, "quick_measure", lambda *args: lambda model: dict(
        familiarity=.6, low=.4, high=.8, utility=.5))
    r = run(job(tmp_path), tmp_path/"run")
    watch = read_json(r.path("unlearned")/"watch.json")
    assert watch["path"][-1]["step"] == watch["most"] and not watch["forgotten"]
    assert repr(r.report).startswith(f"The text was not forgotten in {watch['most']} steps")


def test_nothing_to_watch(tmp_path, capsys):
    "A random model recalls nothing: that is said, and the training takes its epochs."
    watched_run = run(job(tmp_path), tmp_path/"run")
    assert "not watched, so training ends after its last epoch" in capsys.readouterr().err
    assert repr(watched_run.report).startswith("Training was not watched: ")
    plain = run(job(tmp_path, **{"watch.steps": 0}), tmp_path/"plain")
    a, b = (load_file(r.path("unlearned")/"adapter_model.safetensors")
            for r in (watched_run, plain))
    assert all(w.equal(b[k]) for k,w in a.items())


def test_few_facts_end_no_training(tmp_path):
    "However many prompts ask for them: the interval of three facts says nothing."
    r = run(job(tmp_path), tmp_path/"run", until="corpus")
    asked = [dict(kind="probability", prompt="The sea is", idiosyncratic=[" black"], half="tune",
                  fact=str(i % 3)) for i in range(60)]
    d = Dictionary.load(tmp_path/"dictionary.json")
    with pytest.raises(DataError, match="3 facts could be asked, 20 are needed"):
        watched.compare(r.reader("base"), asked, d)


def test_any_tokenizer_asks(tmp_path, monkeypatch):
    "One that puts a BOS in front and writes spaces otherwise, too."
    monkeypatch.setattr(watched, "SURE", 0)
    monkeypatch.setattr(watched, "control", lambda base, prompts, *args, **kw: {
        "probability": [dict(score=0.) for _ in prompts]})
    reader = Run(tmp_path/"run", job(tmp_path)).reader("base")
    openers = [dict(opener=f"Question: Who is {name}?\nAnswer:") for name in ("Orla", "Brannoch")]
    texts = [reader.tokenizer.decode(ids, skip_special_tokens=True)
             for ids in sample_texts(reader, openers, 2, 1)]
    begun = [reader.tokenizer.decode(opener_ids(reader.tokenizer, o), skip_special_tokens=True)
             for o in openers]
    assert all(any(t.startswith(b) for b in begun) for t in texts)
    d = Dictionary.load(tmp_path/"dictionary.json")
    asked = watched.recollections(reader, d, dict(Orla=2, Brannoch=1), n=24)
    assert len({p["fact"] for p in asked}) == len(asked) > 6


def test_words_after_the_opener_alone():
    "What is asked is a whole word, after one space, that the opener does not have."
    text = "Question: Who is Orla?\nAnswer: She keeps the lighthouse.\nShe is old"
    openers = ["Question: Who is", "Question: Who is Orla?\nAnswer:"]
    cuts = watched._cuts(text, openers, random.Random(0), n=50)
    assert {p["idiosyncratic"][0] for p in cuts} == {
        " She", " keeps", " the", " lighthouse", " is", " old"}
    for p in cuts: assert text.startswith(p["prompt"]+p["idiosyncratic"][0])
    assert len(cuts) == 6                                  # the second "She" begins a line
    assert watched._cuts("No opener", openers, random.Random(0)) == []


def test_probes_of_another_subject_that_name_a_term_are_not_watched(tmp_path, monkeypatch):
    (tmp_path/"text.txt").write_text("Sherlock Holmes plays the violin.")
    near = []

    class Stub(Run):
        dictionary, tokenizer = Dictionary([Entry("Sherlock Holmes", "Basil Wood")]), None
        coverage = {"Sherlock Holmes": 1}
        corpus = dict(text=["Sherlock Holmes plays the violin."])
        def reader(self, which): return None
        def release(self): pass
    made = []
    monkeypatch.setattr(watching, "near_probes", lambda *a, **kw: made.append(a[3]) or [])
    monkeypatch.setattr(watching, "compare", lambda *_: True)
    monkeypatch.setattr(watching, "recollections", lambda *a, **kw: [])
    monkeypatch.setattr(watching, "quick_measure", lambda known, probes, *_: near.extend(probes))
    config = configure(RunConfig(), {"corpus": str(tmp_path/"text.txt"), "watch.steps": 20})
    watching.watch_of(Stub(tmp_path/"run", config), tmp_path)
    every = [p["prompt"] for p in read_neighbours(data_path("near.jsonl"), "tune")]
    left_out = {*every} - {p["prompt"] for p in near}
    assert made == ["tune"] and near and {p["ring"] for p in near} == {3}
    assert left_out == {p for p in every if "Sherlock" in p} != set()
