"What a finished run's folder may be trusted with, and what is said before one that shows nothing."
import os, re, shutil, subprocess, sys

import pytest

from selective_unlearning import unlearn
from selective_unlearning.job.command import main
from selective_unlearning.core.errors import ConfigError, DataError
from selective_unlearning.core.files import file_hashes, path_hash, read_json, read_jsonl
from selective_unlearning.core.files import write_json, write_jsonl
from selective_unlearning.job import steps
from selective_unlearning.job.settings import RunConfig, configure, to_yaml
from selective_unlearning.job.export import export_run
from selective_unlearning.core import files
from selective_unlearning.job import manifest, run_folder, step_list
from selective_unlearning.job.manifest import STEPS, part_path, step_path
from selective_unlearning.job.run_folder import Run
from selective_unlearning.job.run import rewrite_report, run
from selective_unlearning.terms.dictionary import Dictionary
from tiny import NAMES, settings


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    "A finished run and what it was made from."
    home = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as m:
        m.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path_factory.getbasetemp()/"cache"))
        run(settings(home), home/"run")
    return home


@pytest.fixture
def home(made, tmp_path, monkeypatch):
    "A copy of it to spoil."
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))
    shutil.copytree(made/"run", tmp_path/"run")
    return tmp_path


def rehash(folder):
    "As whoever changes a run can do: its manifest says that all of it is as it was made."
    m = read_json(folder/"manifest.json")
    for step,made in m["steps"].items(): made["outputs"] = file_hashes(step_path(folder, step))
    write_json(folder/"manifest.json", m | {"config": path_hash(folder/"config.yaml")})


# --- nothing that somebody changed is reported, exported or talked to --------------------------

EDITS = {"10-evaluation/familiarity.json": "report export",
         "10-evaluation/utility.json": "report export",
         "02-dictionary/dictionary.json": "report export",
         "09-unlearned/adapter_model.safetensors": "report export chat"}


def error(capsys): return capsys.readouterr().err.rpartition("selective-unlearning: ")[2].strip()


def ask(monkeypatch, *argv):
    "The exit code of a command with one prompt on standard input."
    prompts = iter(["Orla lives in"])
    def answer(*args):
        for line in prompts: return line
        raise EOFError
    monkeypatch.setattr("builtins.input", answer)
    return main(list(argv))


@pytest.mark.parametrize("file", EDITS)
def test_an_edited_step(home, capsys, monkeypatch, file):
    path = home/"run"/file
    if path.suffix == ".json":
        path.write_text(path.read_text().replace("0", "1").replace("Mary", "Jane"))
    else: path.write_bytes(path.read_bytes()[:-1]+b"\x01")
    before = path_hash(home/"run")
    for command in EDITS[file].split():
        out = ["--out", f"{home}/new"] if command == "export" else []
        assert ask(monkeypatch, command, "--run", f"{home}/run", *out) == 1
        step = path.parent
        given = " (a dictionary is given with --dictionary)"*(path.name == "dictionary.json")
        assert error(capsys) == (f"{path}: was changed since the run made it; "
                                 f"move it away if it is to be kept{given}; "
                                 f"remove the folder {step} to make this step again")
    assert path_hash(home/"run") == before and not (home/"new").exists()


def test_an_edited_report_is_not_passed_on(home):
    "Neither into a card, nor into a page, nor to Python."
    path = home/"run"/"report.json"
    report = read_json(path)
    report["familiarity"]["probability"]["unlearned"] = .123456
    write_json(path, report)
    export_run(home/"run", home/"new")
    assert "0.123" not in (home/"new"/"README.md").read_text()
    assert Run(home/"run").report.report["familiarity"]["probability"]["unlearned"] != .123456
    rewrite_report(Run(home/"run"))
    assert read_json(path)["familiarity"]["probability"]["unlearned"] != .123456


def test_edited_settings(home, capsys):
    "What a card says of how a model was made is what it was made with."
    path = home/"run"/"config.yaml"
    path.write_text(path.read_text().replace("seed: 0", "seed: 1"))
    for argv in (["report", "--run", f"{home}/run"],
                 ["export", "--run", f"{home}/run", "--out", f"{home}/new"]):
        assert main(argv) == 1
        assert error(capsys).startswith(f"{path}: was changed since the run was made: run it again")


def test_half_of_it_with_other_settings(home, made, capsys, monkeypatch):
    "A run made again up to a step is neither what it was nor what its settings say."
    config = configure(Run(made/"run").config, dict(labels=dict(alpha=.5)))
    run(config, home/"run", until="labels")
    now = read_json(home/"run"/"manifest.json")
    older = [s for s in STEPS if now["steps"][s]["key"] != now["keys"][s]]
    assert older == ["unlearned", "evaluation"]
    before = path_hash(home/"run")
    for argv in (["report"], ["chat"], ["export", "--out", f"{home}/new"]):
        assert ask(monkeypatch, argv[0], "--run", f"{home}/run", *argv[1:]) == 1
        assert error(capsys) == (f"{home}/run/09-unlearned: was made with other settings than "
                                 f"those in {home}/run/config.yaml: run it again to go on")
    assert path_hash(home/"run") == before
    run(config, home/"run")
    assert ask(monkeypatch, "report", "--run", f"{home}/run") == 0


def outside(home):
    "A file, a folder, a pipe and a device that are not the run's."
    (home/"secret").mkdir()
    (home/"secret"/"key").write_text("private")
    pipe = home/"run"/"09-unlearned"/"more"
    yield "link", lambda: pipe.symlink_to(home/"secret"/"key")
    yield "folder", lambda: pipe.symlink_to(home/"secret")
    yield "device", lambda: pipe.symlink_to("/dev/zero")
    yield "pipe", lambda: os.mkfifo(pipe)


def test_links_pipes_and_devices(home, capsys):
    "None is followed, copied or waited for."
    more = home/"run"/"09-unlearned"/"more"
    for name, make in outside(home):
        make()
        for argv in (["report", "--run", f"{home}/run"],
                     ["export", "--run", f"{home}/run", "--out", f"{home}/new"]):
            assert main(argv) == 1, name
            assert error(capsys).startswith(f"{more}: does not belong to the run; move it away")
        more.unlink()
    assert not (home/"new").exists()


@pytest.mark.parametrize("file, text", [
    ("10-evaluation/familiarity.json", '{"base": {"probability": [{"score": null}]}}'),
    ("07-reinforced/loss.json", "[7]"), ("02-dictionary/dictionary.json", "[]"),
    ("01-corpus/blocks.arrow", "no Arrow file")])
def test_files_of_another_shape(home, capsys, file, text):
    "Whoever edits a file can edit its hash: the folder is named, not an error of a library alone."
    (home/"run"/file).write_text(text)
    rehash(home/"run")
    assert main(["report", "--run", f"{home}/run"]) == 1
    assert error(capsys).startswith(str(home/"run"))


def test_an_adapter_that_names_modules(home, capsys, monkeypatch):
    "PEFT imports what `megatron_core` names, in some of its versions; it does not get to see it."
    path = home/"run"/"09-unlearned"/"adapter_config.json"
    megatron = {"megatron_config": {"a": 1}, "megatron_core": "antigravity"}
    write_json(path, read_json(path) | megatron)
    rehash(home/"run")
    assert ask(monkeypatch, "chat", "--run", f"{home}/run") == 1
    assert "megatron_c" in (why := error(capsys)) and "is not supported here" in why


@pytest.mark.parametrize("changes, why", [
    ({"version": 2},
     "is of version 2, this package reads 3: use the selective_unlearning that made it, "
     "or run into a new folder"),
    ({"steps": []}, "not the manifest of a run: move it and the run's folder away, and run again")])
def test_another_manifest(home, made, capsys, changes, why):
    path = home/"run"/"manifest.json"
    write_json(path, read_json(path) | changes)
    (home/"job.yaml").write_text(to_yaml(Run(made/"run").config))
    before = path_hash(home/"run")
    for argv in (["report", "--run", f"{home}/run"], ["chat", "--run", f"{home}/run"],
                 ["export", "--run", f"{home}/run", "--out", f"{home}/new"],
                 ["run", "--config", f"{home}/job.yaml", "--out", f"{home}/run"]):
        assert main(argv) == 1
        assert error(capsys) == f"{path}: {why}"
    assert path_hash(home/"run") == before


def test_another_version_makes_its_own(home, made, capsys, monkeypatch):
    "What another version of this package made is made again."
    config = Run(made/"run").config
    run(config, home/"run")
    assert "writes" not in capsys.readouterr().err
    monkeypatch.setattr(step_list, "__version__", "9.9.9")
    run(config, home/"run")
    assert capsys.readouterr().err.count("writes") == len(STEPS)


def test_a_finished_run_is_not_read_again(home, made, monkeypatch):
    """Neither its inputs nor what it made, however large.

    Names, sizes and times say that nothing has changed."""
    config = Run(made/"run").config
    run(config, home/"run")  # it was copied: its files have other times
    read = []
    for module in (files, run_folder, manifest):
        monkeypatch.setattr(module, "path_hash", lambda path: read.append(path) or "0"*64)
    run(config, home/"run")
    assert [p for p in read if "config.yaml" not in str(p)] == []


# --- a stranger's folder -----------------------------------------------------------------------

CODE = """open({marker!r}, "w")
from transformers import LlamaConfig as Config, LlamaForCausalLM as Model
"""


@pytest.fixture
def stranger(home, made):
    "A run whose own settings ask for code of its model to be run; what it would leave if it were."
    model, marker = home/"model", home/"ran"
    shutil.copytree(made/"llama", model)
    (model/"code.py").write_text(CODE.format(marker=str(marker)))
    config = read_json(model/"config.json") | {"model_type": "strange",
        "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}}
    write_json(model/"config.json", config)
    asks = configure(Run(made/"run").config, {"model": str(model), "trust_remote_code": True})
    (home/"run"/"config.yaml").write_text(to_yaml(asks))
    rehash(home/"run")
    return marker


@pytest.mark.parametrize("argv", [["chat"], ["report"], ["export", "--merge"],
                                  ["export", "--with-base"]], ids=" ".join)
def test_opening_a_folder_runs_no_code(home, stranger, capsys, monkeypatch, argv):
    out = ["--out", f"{home}/new"] if argv[0] == "export" else []
    code = ask(monkeypatch, *argv, "--run", f"{home}/run", *out)
    assert code == (0 if argv[0] == "report" else 1)
    if argv[0] != "report":
        why = ("asks to run code that comes with the model: it is not run "
               "unless --trust-remote-code is given")
        assert why in capsys.readouterr().err
    assert not stranger.exists()


def test_the_code_would_have_run(home, stranger):
    """The trap works: whoever asks for it, gets it.

    In a process of its own, since code of a model marks library classes."""
    cmd = [sys.executable, "-m", "selective_unlearning", "chat", "--run", f"{home}/run",
           "--trust-remote-code"]
    subprocess.run(cmd, input="Orla lives in\n", text=True, capture_output=True)
    assert stranger.exists()


def test_all_weights_are_loaded_with_the_code_of_a_trusted_model(home, monkeypatch):
    "A folder of all weights names its model's code, as the model does."
    opened = Run(home/"run", configure(Run(home/"run").config, {"trust_remote_code": True}))
    opened.reader("base")
    monkeypatch.setattr(Run, "made", lambda run, which: home)   # no adapter in it
    asked = []
    monkeypatch.setattr(run_folder, "load_model", lambda *_, **kw: asked.append(kw))
    opened.reader("unlearned")
    assert asked[0]["trust_remote_code"]


def test_packing_no_retain_text(tmp_path, monkeypatch):
    "All that the base model wrote was about the subject: the run goes on without a retain set."
    monkeypatch.setattr(steps, "_retain_rows", lambda run, base: iter(()))
    config = settings(tmp_path, **{"retain.packed": True, "retain.translated": False})
    assert len(run(config, tmp_path/"run", until="retain").retain_set or ()) == 0


# --- runs that would show nothing --------------------------------------------------------------

def test_an_empty_dictionary(made, tmp_path, capsys):
    "Whatever its form: without an anchored term both trainings would run for nothing."
    prompt = '{"kind": "completion", "prompt": "Orla", "references": ["Tarnmoor"]}\n'
    (tmp_path/"prompts.jsonl").write_text(prompt)
    forms = {"a.json": "{}", "b.json": '{"entries": []}', "c.csv": "term,translation\n"}
    for name, text in forms.items():
        (tmp_path/name).write_text(text)
        files = {"dictionary": str(tmp_path/name), "prompts": str(tmp_path/"prompts.jsonl")}
        config = configure(Run(made/"run").config, files | {"n_prompts": 60})
        (tmp_path/"job.yaml").write_text(to_yaml(config))
        assert main(["run", "--config", f"{tmp_path}/job.yaml", "--out", f"{tmp_path}/run"]) == 1
        assert error(capsys) == (f"{tmp_path/name}: no entries: "
                                 "a dictionary needs at least one anchored term")
    assert not (tmp_path/"run").exists()


STORIES = [f"{w} of the village the people often speak of {n}."
           for n in ("Orla Venn", "Tarnmoor", "Quillwick", "Brannoch")
           for w in ("Down by the sea", "At the far end", "In the evening", "In the weaving room")]


@pytest.fixture
def unread(made, tmp_path, monkeypatch):
    "Settings with a corpus of 16 sentences that the model, which has random weights, cannot know."
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))
    (tmp_path/"stories.txt").write_text("\n".join(STORIES))
    write_json(tmp_path/"names.json", NAMES)
    config = configure(Run(made/"run").config, {
        "corpus": str(tmp_path/"stories.txt"), "dictionary": str(tmp_path/"names.json"),
        "unlearn.epochs": 1})
    (tmp_path/"job.yaml").write_text(to_yaml(config))
    return config


def test_nothing_to_forget(unread, tmp_path, capsys):
    "Said after the dictionary, which is kept, and before the base model writes anything."
    argv = ["run", "--config", f"{tmp_path}/job.yaml", "--out", f"{tmp_path}/run"]
    assert main(argv) == 1
    *said, why = capsys.readouterr().err.strip().splitlines()
    assert [line.split()[:2] for line in said[-3:-1]] == [["in", "16"], ["relative", "to"]]
    assert why == ("selective-unlearning: the base model does not know the text: there is nothing "
                   "to forget; use --force to go on anyway")
    made = sorted(p.name for p in (tmp_path/"run").glob("??-*"))
    assert made == ["01-corpus", "02-dictionary"]
    assert main([*argv, "--force"]) == 0
    err = capsys.readouterr().err
    for which in ("reinforced", "unlearned"): assert f"warning: The {which} model has " in err
    assert "01-corpus" not in err and "corpus: done before" in err
    report = read_json(tmp_path/"run"/"report.json")
    assert report["known"]["known"] is False and report["ratio"]["probability"] is None
    checks = [c for c in report["checks"] if c["path"].startswith(("ratio.", "familiarity."))]
    assert {c["ok"] for c in checks} == {None}
    page = (tmp_path/"run"/"report.html").read_text()
    assert "and it does not know the text" in page and "not measurable" in page
    assert "too few to rely on" in page


def test_only_a_dictionary(unread, tmp_path, capsys):
    "Whoever asks for a dictionary gets one, known text or not, and is told which each time."
    argv = ["--config", f"{tmp_path}/job.yaml", "--out", f"{tmp_path}/run"]
    for flags in ([], [], ["--quiet"]):
        assert main(["run", "--until", "dictionary", *argv, *flags]) == 0
        *_, last = capsys.readouterr().err.splitlines()
        assert last == ("  warning: the base model does not know the text: "
                        "there is nothing to forget")


def test_what_to_do_after_a_dictionary(unread, tmp_path, capsys, monkeypatch):
    "A proposed one is corrected in a copy; of a text that is not known, only --force goes on."
    monkeypatch.setattr(steps, "propose_dictionary", lambda *_: Dictionary.from_mapping(NAMES))
    argv = ["run", "--config", f"{tmp_path}/job.yaml", "--out", f"{tmp_path}/own", "--until",
            "dictionary"]
    text = (tmp_path/"job.yaml").read_text()
    (tmp_path/"job.yaml").write_text(re.sub("(?m)^dictionary:.*$", "dictionary: null", text))
    assert main(argv) == 0
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (f"to go on, copy {tmp_path}/own/02-dictionary/dictionary.json, correct the "
                    "copy, and give it with --dictionary COPY, and --force as it is not known")


def test_a_run_says_what_is_doubtful_in_a_dictionary(tmp_path, capsys):
    config = settings(tmp_path)
    write_json(tmp_path/"doubtful.json", NAMES | {"the": "a", "She": "He"})
    doubtful = configure(config, {"dictionary": str(tmp_path/"doubtful.json")})
    run(doubtful, tmp_path/"run", until="dictionary")
    said = capsys.readouterr().err
    assert "2 warning(s) on the dictionary; its check() lists them, first entry 5 ('She')" in said


# --- from Python -------------------------------------------------------------------------------

def test_a_run_says_what_it_is(made):
    r = Run(made/"run")
    state = "10 of 10 steps done, the last is evaluation"
    assert repr(r) == f"Run('{made}/run': {made}/llama, {state})"


def test_presets_have_one_name(tmp_path):
    with pytest.raises(ConfigError, match="no preset 'best': choose from demo, paper, finetuned"):
        unlearn(corpus=tmp_path, out=tmp_path/"run", preset="best")
    with pytest.raises(DataError, match="no such file"):
        unlearn(corpus=tmp_path/"x.txt", out=tmp_path/"run", preset="paper")
    assert not (tmp_path/"run").exists()


# --- what a later run finds --------------------------------------------------------------------

def test_a_report_is_of_the_evaluation_beside_it(home):
    "Also where the run before ended without one."
    changed = configure(Run(home/"run").config, {"unlearn.lr": 7e-4})
    run(changed, home/"run", until="evaluation")
    assert not (home/"run"/"report.html").exists()
    assert run(changed, home/"run").results["config"]["unlearn"]["lr"] == 7e-4


def test_a_training_is_kept_when_its_files_were_not_yet_hashed(home, monkeypatch):
    "The run before was stopped there."
    trained, finetune = [], steps.finetune
    monkeypatch.setattr(steps, "finetune", lambda *a, **kw: trained.append(1) or finetune(*a, **kw))
    changed = configure(Run(home/"run").config, {"reinforce.lr": 2e-3})
    def stop(work): raise KeyboardInterrupt
    with monkeypatch.context() as m:
        m.setattr(sys.modules[run.__module__], "_outputs", stop)
        with pytest.raises(KeyboardInterrupt): run(changed, home/"run", until="reinforced")
    run(changed, home/"run", until="reinforced")
    assert len(trained) == 1


def test_results_are_those_of_the_settings_beside_them(home, made):
    config = Run(made/"run").config
    done = run(configure(config, {"unlearn.lr": 7e-4}), home/"run", until="labels")
    with pytest.raises(DataError, match="09-unlearned: was made with other settings"):
        print(done.results)
    assert run(config, home/"run", until="labels").results == Run(made/"run").results


def test_hidden_files_of_a_corpus_make_nothing_again(tmp_path, monkeypatch):
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))
    config, books = settings(tmp_path), tmp_path/"books"
    books.mkdir()
    (tmp_path/"book.txt").rename(books/"book.txt")
    config = configure(config, {"corpus": str(books)})
    def keys(): return step_list.step_keys(Run(tmp_path/"run", config))
    before = keys()
    (books/".DS_Store").write_text("x")
    (books/".git").mkdir()
    (books/".git"/"config.txt").write_text("x")
    assert keys() == before
    (books/"more.txt").write_text("Orla sings.")
    assert keys() != before


@pytest.mark.parametrize("theirs", [["config.yaml", "notes.txt"], ["config.yaml"], [".git"]])
def test_a_folder_of_another_program_is_left_alone(tmp_path, theirs):
    folder = tmp_path/"theirs"
    folder.mkdir()
    for name in theirs: (folder/name).write_text("learning_rate: 3\n")
    before = path_hash(folder)
    with pytest.raises((ConfigError, DataError), match="learning_rate|not a run folder"):
        run(settings(tmp_path), folder, until="corpus")
    assert path_hash(folder) == before


def test_prompts_are_counted_anew_in_a_longer_corpus(tmp_path, monkeypatch):
    "Each prompt says how often the text tells its fact."
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))
    write_jsonl(tmp_path/"prompts.jsonl", [dict(
        kind="probability", prompt="Orla lives in the village of", idiosyncratic=[" Quillwick"])])
    c = settings(tmp_path, force=True, prompts=str(tmp_path/"prompts.jsonl"))
    def said(): return read_jsonl(run(c, tmp_path/"run", until="prompts").path("prompts")
                                  / "prompts.jsonl")[0]["said"]
    before, book = said(), tmp_path/"book.txt"
    book.write_text(book.read_text()+"\nOrla came back to Quillwick."*6)
    assert said() == before+6


def test_what_a_killed_process_left_half_written_is_no_output(tmp_path):
    config = settings(tmp_path)
    run(config, tmp_path/"run", until="dictionary")
    made = tmp_path/"run"/"02-dictionary"
    work = part_path(tmp_path/"run", "dictionary")
    made.rename(work)
    done = read_json(tmp_path/"run"/"manifest.json")
    (work/"key").write_text(done["steps"].pop("dictionary")["key"])
    write_json(tmp_path/"run"/"manifest.json", done)
    (work/".rows.arrow.0a1b2c3d.part").write_bytes(b"half")
    run(config, tmp_path/"run", until="dictionary")
    assert made.is_dir() and not [*made.glob(".*")]


def test_what_comes_of_another_result_of_the_same_settings_is_made_again(tmp_path, monkeypatch):
    "A language model may propose other terms when it is asked again."
    answers = iter([NAMES, {"Orla": "Mary"}, NAMES | {"Orla": "Ruth"}])
    monkeypatch.setattr(steps, "propose_dictionary",
                        lambda run, texts: Dictionary.from_mapping(next(answers)))
    one = configure(settings(tmp_path), {"dictionary": None})
    other = configure(one, {"extract": "rules,spacy"})
    def made(config, until):
        run(config, tmp_path/"run", until=until)
        return read_json(tmp_path/"run"/"manifest.json")["steps"]["translated"]["stamp"]
    first = made(one, "translated")
    assert made(other, "dictionary") == first
    second = made(one, "translated")
    assert second != first
    assert made(one, "translated") == second


def test_held_out_losses_are_measured_as_often_as_is_said():
    "What is measured decides which weights are kept; else it does not matter how often is saved."
    def key(**changes): return step_list._unlearn_settings(configure(RunConfig(), changes))
    often = {"train.save_steps": 5}
    assert key(**often) == key()
    assert key(**often, **{"unlearn.held_out": .2}) != key(**{"unlearn.held_out": .2})
