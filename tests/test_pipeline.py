"The whole job on tiny random models, killed and resumed."
import json, os, shutil, signal, subprocess, sys, time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from selective_unlearning.evaluation.headline import MADE_NEAR, notes
from selective_unlearning.job import checks, run_folder, step_list, steps, watching
from selective_unlearning.job.manifest import STEPS
from selective_unlearning.models.load import load_model
from selective_unlearning.core.errors import DataError
from selective_unlearning.core.files import read_jsonl, write_atomic, write_json, write_jsonl
from selective_unlearning.job.settings import DEMO_FILES, configure, to_yaml
from selective_unlearning.terms.choose_translations import choose_translations
from selective_unlearning.terms.extract import extract_terms
from selective_unlearning.job.run_folder import Run
from selective_unlearning.job.run import _from_anywhere, demo_config, run
from selective_unlearning.job.step_list import STEP_LIST
from selective_unlearning.terms.translate import propose_translations
from selective_unlearning.training.retain_set import base_labels
from tiny import NAMES, TEXT, results, settings


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))


# a user can do nothing about what a library calls
@pytest.mark.filterwarnings("error::FutureWarning")
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("labels", ["soft", "hard"])
def test_every_step(tmp_path, kind, labels):
    r = run(settings(tmp_path, kind, **{"labels.kind": labels}), tmp_path/"run")
    steps = [f"{i:02d}-{s}" for i,s in enumerate(STEPS, 1)]
    made = sorted(p.name for p in (tmp_path/"run").iterdir() if not p.name.startswith("."))
    assert made == sorted([*steps, "config.yaml", "manifest.json", "report.json", "report.html"])
    report = r.results
    assert set(report["familiarity"]["probability"]) == {
        "base", "control", "reinforced", "unlearned"}
    assert report["corpus"]["documents"] == 1 and report["dictionary"]["terms"] == 5
    first = r.labels[0]["input_ids"][0]
    assert (first == 1) == (kind == "llama")             # BOS where the tokenizer puts one
    shown, = r.outputs("Orla lives in").records
    assert len(shown["outputs"]) == 3
    assert shown["outputs"] == r.answers(["Orla lives in"])[0]["outputs"]


def test_facts_are_asked_for_once_more_after_others(tmp_path):
    asked = [dict(kind="probability", prompt=f"Orla put lamp {i} into", idiosyncratic=[f" box {i}"])
             for i in range(6)]
    own = dict(kind="reminded", prompt="Orla has a lamp.\nIt is in a", idiosyncratic=[" box"])
    def remade(given, seed):
        prompts = str(write_jsonl(tmp_path/"prompts.jsonl", given))
        r = run(settings(tmp_path, prompts=prompts, seed=seed), tmp_path/"run")
        made = read_jsonl(r.path("prompts")/"prompts.jsonl")
        assert made[:6] == [p | dict(said=0) for p in asked]   # no text says it
        again = [p for p in made if p["kind"] == "reminded"]
        n = r.results["intervals"]["forgotten"]["by_form"]["reminded"]["probability"][2]
        assert n == len(again)
        assert "Probability when reminded" in (tmp_path/"run"/"report.html").read_text()
        return again
    first = remade(asked, seed=0)
    assert {p["prompt"].count("\n") for p in first} == {5} and len(first) == 6
    assert remade(asked, seed=1) == first                  # seeds can be compared
    assert remade([*asked, own], seed=1) == [own]


def test_what_is_said_before_and_after_a_step(tmp_path, monkeypatch):
    "Before a step that is to be made; after it, or where the run ends, made or not."
    called = []
    def hook(*when): return lambda run, left: called.append((*when, *left))
    watched = [replace(s, before=hook("before", s.name), after=hook("after", s.name))
               for s in STEP_LIST]
    monkeypatch.setattr(step_list, "STEP_LIST", watched)
    config = settings(tmp_path)
    run(config, tmp_path/"run", until="dictionary")
    assert called == [("before", "corpus", "corpus", "dictionary"),
                      ("after", "corpus", "dictionary"),
                      ("before", "dictionary", "dictionary"), ("after", "dictionary")]
    called.clear()
    run(config, tmp_path/"run", until="dictionary")
    assert called == [("after", "dictionary")]
    called.clear()
    shared = hook("shared")
    watched[3:7] = [replace(s, before=shared, after=hook("after")) for s in watched[3:7]]
    run(config, tmp_path/"run", until="reinforced")
    assert [c for c in called if c[0] == "shared"] == [("shared", "reinforced")]
    run(config, tmp_path/"run", until="evaluation")
    assert [c[:2] for c in called if c[0] == "shared"] == [("shared", "reinforced"),
                                                           ("shared", "retain")]


def test_the_base_is_measured_before_anything_is_trained(tmp_path, monkeypatch, caplog):
    "Prompts that tell nothing are named then; what is not needed for an answer is not made."
    monkeypatch.setattr(steps, "finetune", lambda *a, **kw: pytest.fail("trains"))
    monkeypatch.setattr(checks, "unchanged", lambda *a: [
        dict(what="familiarity", path="forgotten.probability", ok=None,
             why="no prompt has a control"),
        dict(what="fall in accuracy", path="general_drop", ok=True)])
    with caplog.at_level("INFO", "selective_unlearning"):
        r = run(settings(tmp_path), tmp_path/"run", until="base-evaluation")
    for part in ("1 of 2 checks", "- familiarity: no prompt has a control",
                 "nothing will show whether the text is forgotten"):
        assert part in caplog.text, part
    assert not r.path("reinforced").exists() and not r.path("labels").exists()


def test_the_estimate_of_the_time_loads_no_model(tmp_path, monkeypatch, caplog):
    loads, load = Counter(), run_folder.load_model
    def run_in(name):
        def counted(*args, **kw):
            loads[name] += 1
            return load(*args, **kw)
        monkeypatch.setattr(run_folder, "load_model", counted)
        run(settings(tmp_path), tmp_path/name, until="translated")
    with caplog.at_level("INFO"): run_in("said")
    assert sum("on this machine" in r.message for r in caplog.records) == 1
    monkeypatch.setattr(checks, "quiet", lambda: True)
    run_in("quiet")
    assert loads["said"] == loads["quiet"] > 0
    assert sum("on this machine" in r.message for r in caplog.records) == 1


def test_one_of_several_candidates_is_kept(tmp_path):
    r = run(settings(tmp_path, dictionary=None, candidates=4), tmp_path/"run", until="dictionary")
    terms = extract_terms([TEXT])
    def tokens(s): return len(r.tokenizer(" "+s, add_special_tokens=False)["input_ids"])
    proposed = propose_translations(terms, r.config.seed, 4, [TEXT], tokens)
    assert r.dictionary == choose_translations(r.reader("base"), proposed, [TEXT])
    assert {len(e.translations) for e in r.dictionary} == {1}
    assert {len(e.translations) for e in proposed} == {4}


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
def test_plain_peft_loads_it(tmp_path):
    from peft import PeftModel
    r = run(settings(tmp_path), tmp_path/"run")
    base = load_model(str(tmp_path/"llama"))
    ids = r.tokenizer("Orla lives in Tarnmoor", return_tensors="pt").input_ids
    with torch.no_grad():
        bare = base(ids).logits
        plain = PeftModel.from_pretrained(base, r.path("unlearned")).eval()(ids).logits
        with r.reader("unlearned").on() as model: ours = model(ids).logits
    assert plain.equal(ours) and not plain.equal(bare)


def test_report_names_no_folder(tmp_path):
    """A report is passed on, and so is an adapter.

    Where files stand is known to the run folder only."""
    r = run(settings(tmp_path), tmp_path/"run")
    assert r.results["model"].startswith("llama@") and r.results["config"]["model"] == "llama"
    assert r.results["config"]["corpus"] == ["book.txt"]
    assert r.results["config"]["dictionary"] == "dictionary.json"
    for name in ("report.json", "report.html", "09-unlearned/base.json"):
        assert str(tmp_path) not in (tmp_path/"run"/name).read_text()
    assert Run(tmp_path/"run").config == r.config
    assert str(tmp_path) in (tmp_path/"run"/"config.yaml").read_text()


def test_a_run_is_read_from_any_directory(tmp_path, monkeypatch):
    "A model's folder that is named from the directory of the moment is found from another."
    config = settings(tmp_path)
    monkeypatch.chdir(tmp_path)
    run(configure(config, {"model": "llama"}), "run", until="corpus")
    made = Run("run").manifest["steps"]
    monkeypatch.chdir("/")
    assert Run(tmp_path/"run").config == config
    assert Run(tmp_path/"run").tokenizer("A lamp").input_ids
    monkeypatch.chdir(tmp_path)
    asking = configure(config, {"ask": "llama", "dictionary": None})  # its name is in a key
    assert _from_anywhere(asking) == asking
    assert run(config, tmp_path/"run", until="corpus").manifest["steps"] == made


def test_what_is_made_again_is_named_before_it_is(tmp_path, caplog):
    "With the setting that was changed, or left out; not what somebody removed, and not twice."
    config, folder = settings(tmp_path), tmp_path/"run"
    caplog.set_level("INFO", logger="selective_unlearning")
    def again():
        said = [m for m in caplog.messages if m.startswith("to be made again")]
        caplog.clear()
        return said
    run(config, folder, until="translated")
    assert again() == []
    changed = configure(config, {"block_size": 16, "evaluate.max_new_tokens": 7})
    run(changed, folder, until="corpus")
    assert again() == ["to be made again: corpus (block_size was 32, is now 16)"]
    run(changed, folder, until="translated")
    assert again() == ["to be made again: dictionary, translated (an earlier step, the model, the "
                       "stranger or the package is another)"]
    shutil.rmtree(folder/"02-dictionary")
    (folder/"config.yaml").unlink()
    run(changed, folder, until="translated")
    assert again() == []
    (tmp_path/"book.txt").write_text(f"{TEXT} A lamp.")
    run(changed, folder, until="corpus")
    assert again() == [f"to be made again: corpus (corpus was changed: {tmp_path}/book.txt)"]
    run(configure(changed, {"dictionary": None, "seed": 1}), folder, until="dictionary")
    assert again()[0].endswith(f"(seed was 0, is now 1; dictionary was {tmp_path}/dictionary.json, "
                               "is now not given)")


@pytest.mark.parametrize("lr, told", [(1e-4, True), (None, False)])
def test_a_training_that_was_cut_off_is_named_before_it_begins_anew(
        tmp_path, caplog, monkeypatch, lr, told):
    config, folder = settings(tmp_path), tmp_path/"run"
    caplog.set_level("INFO", logger="selective_unlearning")
    def stop(*args): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(Run, "save", stop)
        with pytest.raises(KeyboardInterrupt): run(config, folder, until="reinforced")
    run(configure(config, {"reinforce.lr": lr or config.reinforce.lr}), folder, until="reinforced")
    line = "reinforced was cut off and begins anew: what it depends on is not as it was"
    assert (line in caplog.messages) == told


def test_column_of_the_text(tmp_path):
    "A table is read by the column that is named; another one is another corpus."
    config = settings(tmp_path)
    parts = TEXT.split("\n\n")
    rows = [f'{i},"{t}",Orla Venn has a boat.\n' for i,t in enumerate(parts)]
    (tmp_path/"table.csv").write_text("id,body,note\n" + "".join(rows))
    config = configure(config, {"corpus": str(tmp_path/"table.csv"), "text_column": "body"})
    r = run(config, tmp_path/"run", until="corpus")
    assert [t.strip() for t in r.corpus["text"]] == [t.strip() for t in TEXT.split("\n\n")]
    config = configure(config, {"text_column": "note", "dictionary": None})
    r = run(config, tmp_path/"run", until="corpus")
    assert r.corpus["text"][:] == ["Orla Venn has a boat."]*2


def test_all_weights(tmp_path):
    "Full fine-tuning saves whole models that plain transformers loads."
    r = run(settings(tmp_path, **{"lora.r": 0}), tmp_path/"run")
    from transformers import AutoModelForCausalLM
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path/"run"/"09-unlearned")
    base = AutoModelForCausalLM.from_pretrained(tmp_path/"llama")
    assert any(not a.equal(b.to(a.dtype)) for a, b in zip(loaded.parameters(), base.parameters()))
    scores = r.results["familiarity"]["probability"]
    assert scores["unlearned"] != scores["base"] != scores["reinforced"]


def test_held_out_and_packed(tmp_path):
    "Losses on held-out blocks stand in the run folder, and retain texts are kept apart."
    config = settings(tmp_path, **{
        "block_size": 8, "retain.packed": True, "retain.length": 3,
        "unlearn.held_out": .5, "unlearn.epochs": 4})
    r = run(config, tmp_path/"run", until="unlearned")
    lines = (r.path("unlearned")/"loss.csv").read_text().splitlines()
    assert lines[0] == "step,epoch,loss,learning_rate,held_out" and len(lines) > 2
    losses = json.loads((r.path("unlearned")/"loss.json").read_text())
    assert any(row["held_out"] > 0 for row in losses if "held_out" in row)
    texts = r.retain_set["texts"][:]
    assert max(map(len, texts)) > 1 and all(sum(t) <= 8 for t in texts)


def test_stopped_while_checkpoints_are_removed(tmp_path, monkeypatch):
    "What is trained is not trained again, and is not taken from half a checkpoint."
    config, real, removed = settings(tmp_path), shutil.rmtree, []
    def rmtree(path, *args, **kwargs):
        if Path(path).name == "checkpoints" and not removed:
            removed.append(path)
            real(next(Path(path).glob("checkpoint-*")))
            raise KeyboardInterrupt
        return real(path, *args, **kwargs)
    with monkeypatch.context() as m:
        m.setattr(steps.shutil, "rmtree", rmtree)
        with pytest.raises(KeyboardInterrupt): run(config, tmp_path/"run", until="reinforced")
    part = tmp_path/"run"/".07-reinforced.part"
    when = (part/"adapter_model.safetensors").stat().st_mtime_ns
    r = run(config, tmp_path/"run", until="reinforced")
    assert (r.path("reinforced")/"adapter_model.safetensors").stat().st_mtime_ns == when
    assert not (r.path("reinforced")/"checkpoints").exists()


@pytest.mark.parametrize("lora_r", [0, 4])
def test_weights_from_a_checkpoint(tmp_path, monkeypatch, lora_r):
    "As under FSDP, where no process has whole ones: the same files."
    config = settings(tmp_path, **{"lora.r": lora_r, "reinforce.epochs": 3})
    made = []
    for sharded in (False, True):
        monkeypatch.setattr(steps, "sharded", lambda sharded=sharded: sharded)
        folder = run(config, tmp_path/f"run-{sharded}", until="reinforced").path("reinforced")
        weights = folder.glob("*.safetensors")
        made.append({p.name: p.read_bytes() for p in weights})
    assert made[0] == made[1] and made[0]


def test_repeatable_and_resumed(tmp_path):
    """Two runs agree, and a second call does nothing.

    A changed dictionary redoes only what depends on it."""
    config = settings(tmp_path)
    for name in ("a", "b"): run(config, tmp_path/name)
    assert results(tmp_path/"a") == results(tmp_path/"b")
    before = json.loads((tmp_path/"a"/"manifest.json").read_text())["steps"]
    run(config, tmp_path/"a")
    assert json.loads((tmp_path/"a"/"manifest.json").read_text())["steps"] == before
    write_json(tmp_path/"dictionary.json", NAMES | {"weavers": "bakers"})
    run(config, tmp_path/"a")
    after = json.loads((tmp_path/"a"/"manifest.json").read_text())["steps"]
    same = {s for s in before if before[s]["key"] == after[s]["key"]}
    assert same == {"corpus", "reinforced"}


def test_killed_and_resumed(tmp_path):
    "SIGKILL in the middle of each step; the run that goes on ends as one that was never stopped."
    config = settings(tmp_path)
    run(config, tmp_path/"whole")
    (tmp_path/"job.yaml").write_text(to_yaml(config))
    cmd = [sys.executable, "-m", "selective_unlearning", "run",
           "--config", str(tmp_path/"job.yaml"), "--out", str(tmp_path/"cut")]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    killed = set()
    for name in ("07-reinforced", "08-labels", "09-unlearned", "05-prompts", "10-evaluation"):
        part, final = tmp_path/"cut"/f".{name}.part", tmp_path/"cut"/name
        p = subprocess.Popen(cmd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while p.poll() is None and not part.exists() and not final.exists(): time.sleep(.005)
        if part.exists():
            time.sleep(.05)
            killed.add(name)
        p.send_signal(signal.SIGKILL)
        p.wait()
    assert len(killed) >= 3
    done = subprocess.run(cmd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path/"cut") == results(tmp_path/"whole")


def test_quiet(tmp_path):
    "Warnings and the result are shown, and neither the steps nor their progress."
    write_json(tmp_path/"names.json", NAMES | {"Ottermere": "Redhill"})
    config = settings(tmp_path, dictionary=str(tmp_path/"names.json"))
    (tmp_path/"job.yaml").write_text(to_yaml(config))
    cmd = [sys.executable, "-m", "selective_unlearning", "run", "--quiet",
           "--config", str(tmp_path/"job.yaml"), "--out", str(tmp_path/"run")]
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    done = subprocess.run(cmd, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "checks are met" in done.stdout
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert all("warning: " in line for line in lines)
    assert any("never in the corpus: Ottermere" in line for line in lines)


def test_folders(tmp_path):
    "A folder in use, a foreign one, and a damaged one are refused by name."
    from filelock import FileLock
    config, out = settings(tmp_path), tmp_path/"run"
    (tmp_path/"mine").mkdir()
    (tmp_path/"mine"/"thesis.tex").write_text("x")
    with pytest.raises(DataError, match="mine: is not empty and not a run folder"):
        run(config, tmp_path/"mine")
    assert (tmp_path/"mine"/"thesis.tex").read_text() == "x"
    run(config, out)
    with FileLock(out/".lock"):
        with pytest.raises(DataError, match="process is using this folder: wait"): run(config, out)
    (out/"02-dictionary"/"dictionary.json").write_text("{}")
    with pytest.raises(DataError, match="02-dictionary/dictionary.json: was changed"):
        run(config, out)
    with pytest.raises(DataError, match="not a run folder"): Run(tmp_path/"mine")


def test_neighbours_of_another_subject_are_distant_knowledge(tmp_path, monkeypatch):
    "Of the demo's, those with an anchored term are left out, and no figure is called near."
    near = [{"prompt": "The lamp is", "answers": [" old"], "ring": 1},
            {"prompt": "In Tarnmoor the lamp is", "answers": [" old"], "ring": 1},
            {"prompt": "The lamp belongs to", "answers": [" Orla"], "ring": 2}]
    write_jsonl(tmp_path/"theirs.jsonl", near)
    given = settings(tmp_path, neighbours=str(tmp_path/"theirs.jsonl"), force=True)
    done = run(given, tmp_path/"given", until="prompts")
    assert [p["ring"] for p in read_jsonl(done.path("prompts")/"neighbours.jsonl")] == [1, 1, 2]
    monkeypatch.setitem(DEMO_FILES, "neighbours", tmp_path/"theirs.jsonl")
    done = run(configure(given, {"neighbours": None}), tmp_path/"given")
    assert read_jsonl(done.path("prompts")/"neighbours.jsonl") == [near[0] | {"ring": 3}]
    checks = {c["path"]: c for c in done.results["checks"]}
    assert [checks[f"rings.{ring}.ratio"]["ok"] is None for ring in (1, 2)] == [True, True]
    assert "has this ring" in checks["rings.1.ratio"]["why"]
    assert demo_config().neighbours is not None


def test_given_texts_are_retained(tmp_path, caplog):
    "Labelled by the base model, between what it writes and the translated corpus."
    said = ["Bread is made of flour, water and salt.", "Bees dance.", "Orla likes bread."]
    for i,text in enumerate(said): write_atomic(tmp_path/"keep"/f"{i}.txt", text)
    job = settings(tmp_path)
    caplog.set_level("WARNING", "selective_unlearning")
    alone, both = (run(c, tmp_path/f"run{i}", "retain") for i,c in enumerate(
        [job, configure(job, {"retain_corpus": str(tmp_path/"keep")})]))
    only = configure(job, {"retain_corpus": str(tmp_path/"keep"), "retain.samples": 0,
                           "retain.translated": False})
    rows, first = (r.retain_set.to_list() for r in (both, alone))
    kept = [r for r in rows if r not in first]
    assert rows == [*first[:-len(alone.blocks)], *kept, *first[-len(alone.blocks):]]
    assert kept == base_labels(both.reader("base"), [r["input_ids"] for r in kept], 8).to_list()
    read = [both.tokenizer.decode(r["input_ids"], skip_special_tokens=True) for r in kept]
    assert " ".join(read).split() == " ".join(said).split()
    assert 1 < len(read) < len(said)                       # short ones share a row
    assert run(only, tmp_path/"only", "retain").retain_set.to_list() == kept
    write_atomic(tmp_path/"keep"/"1.txt", "Bees sing.")
    assert run(only, tmp_path/"only", "retain").retain_set.to_list() != kept
    assert "1 row(s) of retain_corpus name anchored terms" in caplog.text


def test_who_is_in_given_texts_is_asked_about(tmp_path):
    "In the forms in which the corpus is asked about, without what names an anchored term."
    said = "Bea Salter bakes bread. Bea Salter has a red oven. Orla buys the bread of Bea Salter."
    write_atomic(tmp_path/"keep.txt", said)
    job = configure(settings(tmp_path), {
        "retain_corpus": str(tmp_path/"keep.txt"), "retain.samples": 0, "retain.translated": False,
        "written.recalled": 60, "written.asked": 60})
    done = run(job, tmp_path/"run", "retain")
    rows = done.retain_set["input_ids"][:]
    texts = done.tokenizer.batch_decode(rows, skip_special_tokens=True)
    about = [bool(done.dictionary.matcher.find(t)) for t in texts]
    assert about[:4].count(True) == 1 and not any(about[4:])     # the given one alone
    written = " ".join(texts[4:])
    assert written.count("Bea Salter") > 5 and "Bea Salter bakes bread." in written


@pytest.mark.parametrize(("said", "method"), [
    ("1 2 3.", "whp"), ("the bread is old.", "whp"), ("Bea Salter bakes bread.", "ga")])
def test_given_texts_about_which_nothing_is_asked(tmp_path, said, method):
    "They name nobody, or the method makes no labels and asks nothing of the corpus either."
    write_atomic(tmp_path/"keep.txt", said)
    changes = {"method": method, "retain_corpus": str(tmp_path/"keep.txt"), "retain.samples": 0,
               "retain.translated": False, "unlearn.retain_weight": 1.}
    if method == "whp": changes |= {"written.recalled": 60, "written.asked": 60}
    job = configure(settings(tmp_path), changes)
    done = run(job, tmp_path/"run", "retain")
    def text(ids): return done.tokenizer.decode(ids, skip_special_tokens=True)
    rows = done.retain_set["input_ids"][:]
    assert [*map(text, rows)] == [text(done.tokenizer(said)["input_ids"])]


def test_given_texts_for_which_there_are_no_steps(tmp_path, caplog):
    "They are counted, with what to do; if all are read, nothing is said."
    long = " ".join(f"On day {i} the baker sold {3*i} loaves." for i in range(40))
    write_atomic(tmp_path/"keep.txt", long)
    job = configure(settings(tmp_path), {"retain_corpus": str(tmp_path/"keep.txt")})
    caplog.set_level("WARNING", "selective_unlearning")
    done = run(job, tmp_path/"run", "unlearned")
    rows, read = len(done.retain_set), len(done.labels)*job.unlearn.epochs
    assert rows > read
    assert f"{rows-read} of {rows} rows of the retain set are not read" in caplog.text
    caplog.clear()
    run(configure(job, {"unlearn.epochs": -(-rows//len(done.labels))}), tmp_path/"run", "unlearned")
    assert "are not read" not in caplog.text


@pytest.mark.parametrize("n", [19, 20])
def test_neighbours_are_made_for_a_text_that_comes_without(tmp_path, monkeypatch, n):
    "They are what lies nearest; fewer than 20 say nothing and are left out."
    asked = []

    def made(base, texts, terms, half, stranger, retained, **kw):
        asked.append((half, stranger, len([*retained])))
        return [dict(prompt=f"{i} lamps:\n1. New", answers=[" York"], topic="lamps", ring=1)
                for i in range(n)]
    monkeypatch.setattr(watching, "near_probes", made)
    done = run(settings(tmp_path, neighbours=None, force=True), tmp_path/"run")
    assert asked == [("test", None, len(done.retain_set))]
    rings = Counter(p["ring"] for p in read_jsonl(done.path("prompts")/"neighbours.jsonl"))
    assert rings[1] == n*(n >= 20) and rings[2] == 0 < rings[3]
    assert ("1" in done.results["rings"]) == (n >= 20) == (MADE_NEAR in notes(done.results))
