"Each kind of bad input: the whole message, its class, the exit code, and that nothing was made."
import errno, json, os, re, shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pypdf import PdfWriter
from transformers import ByT5Tokenizer

from selective_unlearning.core import files as files_module
from selective_unlearning.job.command import main
from selective_unlearning.core.errors import ConfigError, DataError, ModelError
from selective_unlearning.core.files import path_hash, write_json
from selective_unlearning.job.settings import RunConfig, configure, to_yaml
from selective_unlearning.labels.shards import read_labels
from selective_unlearning.models.load import load_model
from selective_unlearning.job.run_folder import Run
from selective_unlearning.job.run import run
from tiny import NAMES, TEXT, results, save_model, settings


@pytest.fixture(autouse=True)
def alone(tmp_path_factory, monkeypatch):
    "No network, and a cache of our own."
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path_factory.getbasetemp()/"cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


class Trap:
    "What makes a folder when it is unpickled."
    def __init__(self, path): self.path = path
    def __reduce__(self): return os.mkdir, (str(self.path),)


FILES = {
    "empty.txt": "  \n", "latin.txt": b"caf\xe9", "notes.docx": "x",
    "broken.jsonl": '{"text": "a"}\n{"text": }\n', "broken.csv": 'id,text\n1,"a\n',
    "short.csv": "id,text\n1\n", "other.csv": "id,body\n1,a\n",
    "empty_term.json": '{"": "x", "Orla": "Mary"}', "same.json": '{"Orla": "Orla"}',
    "contains.json": '{"Orla": "the Quillwick girl", "Quillwick": "Ashby"}',
    "twice.json": '{"Orla": "Mary", "Orla": "Jane"}',
    "absent.json": '{"Zorblax": "Tim"}', "broken.json": '{"Orla":\n "Mary",,}',
    "broken_dictionary.csv": 'Orla,Mary\nVenn,"Cole\n',
    "key.json": '{"entries": [{"term": "Orla", "tranlations": ["Mary"]}]}', "list.json": "[1]",
    "lonely.json": '{"Orla Venn": "Mary Cole"}',
    "riddle.jsonl": '{"kind": "riddle", "prompt": "x"}\n', "none.jsonl": "\n",
    "broken_prompts.jsonl": '{"kind": "question"}\n{"kind"\n',
    "tune.jsonl": '{"kind": "completion", "prompt": "Orla", "references": [], "half": "tune"}\n',
    "bare.jsonl": '{"prompt": "x"}\n',
    "level.jsonl":
        '{"kind": "completion", "prompt": "Orla", "references": [], "subtlety": null}\n',
    "kinds.jsonl": '{"kind": [], "opener": "x"}\n',
    "cloze.jsonl": '{"kind": "probability", "prompt": "Orla", "idiosyncratic": [""]}\n',
    "generic.jsonl": '{"kind": "probability", "prompt": "Orla", "idiosyncratic": [" Venn"], '
                     '"generic": " Cole"}\n',
    "nan.jsonl": '{"kind": "completion", "prompt": "Orla", "references": [], "by": NaN}\n',
    "deep.jsonl": '{"opener": '+"["*10**5,
    "half.jsonl": '{"kind": "question", "prompt": "\\ud800", "answers": ["Orla"]}\n',
    "digits.jsonl": f'{{"opener": {"9"*5000}}}\n',
    "near.jsonl": '{"prompt": ["The sea"], "answers": [" black"]}\n',
    "nearer.jsonl": '{"prompt": "The sea is", "answers": [" black", 7]}\n',
    "huge.jsonl": '{"prompt": "The sea is", "answers": [" black"], "topic": 1e999}\n',
    "numbers.jsonl": '{"prompt": "2 and 2 are", "choices": [3, 4], "answer": 1}\n',
    "true.jsonl": '{"prompt": "The lamp is", "choices": ["sea", "old"], "answer": true}\n',
    "surrogate.jsonl": '{"opener": "A lamp\\udfff"}\n',
    "nested.jsonl": '{"opener": "A lamp", "by": '+"["*99+"]"*99+"}\n",
    "mixed.json": '[{"prompt": {"prompt": "Orla", "references": []}},\n'
                  ' {"kind": "riddle", "prompt": "x"}]',
    "older.json": '[{"prompt": {"prompt": "Orla", "references": [], "subtlety": 1.5}}]',
    "cut.json": '[{"prompt":\n {"prompt": "Orla"'}


def bad_models(home):
    "Folders whose weights or tokenizer cannot be used."
    for name in ("pickled", "cut", "slow", "no_tokenizer"): save_model(home/name, "llama")
    weights = home/"pickled"/"model.safetensors"
    weights.unlink()
    torch.save({}, home/"pickled"/"pytorch_model.bin")
    weights = home/"cut"/"model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    for name in ("slow", "no_tokenizer"):
        for file in ("tokenizer.json", "tokenizer_config.json"): (home/name/file).unlink()
    ByT5Tokenizer().save_pretrained(home/"slow")
    (home/"nothing").mkdir()


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    "A folder of good and bad inputs, a finished run in `done`, and its settings."
    home = tmp_path_factory.mktemp("job")
    config = settings(home)
    with pytest.MonkeyPatch.context() as m:
        m.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path_factory.getbasetemp()/"cache"))
        run(config, home/"done")
    for name,text in FILES.items():
        (home/name).write_bytes(text if isinstance(text, bytes) else text.encode())
    (home/"empty").mkdir()
    pdf = PdfWriter()
    pdf.add_blank_page(100, 100)
    pdf.write(home/"scan.pdf")
    np.save(home/"trap.npy", np.array([Trap(home/"trapped")], dtype=object), allow_pickle=True)
    bad_models(home)
    return SimpleNamespace(home=home, config=config)


def error_of(capsys):
    "The error that the command printed, before any training."
    err = capsys.readouterr().err
    assert "Traceback" not in err and "/10] reinforced" not in err
    return err.rpartition("selective-unlearning: ")[2].rstrip("\n")


def same(message, wanted):
    "A wanted message may end in `…` where the rest is another library's."
    return message.startswith(wanted[:-1]) if wanted.endswith("…") else message == wanted


USABLE = "fetch it again, or save it with save_pretrained (…"
CASES = [
    (dict(corpus=()), ConfigError,
     "no corpus: name the files or folders to be forgotten, e.g. corpus='my_books/'"),
    (dict(corpus="T/gone.txt"), DataError, "corpus: T/gone.txt: no such file or folder"),
    (dict(corpus="T/empty.txt"), DataError,
     "T/empty.txt: no text found: give a file with words in it"),
    (dict(corpus="T/empty"), DataError, "T/empty: no text found: give a file with words in it"),
    (dict(corpus="T/scan.pdf"), DataError,
     "T/scan.pdf: no text in the PDF: run OCR on it if it is a scan"),
    (dict(corpus="T/latin.txt"), DataError,
     "T/latin.txt: byte 3 is not UTF-8; save the file as UTF-8"),
    (dict(corpus="T/notes.docx"), DataError,
     "T/notes.docx: no reader for notes.docx, only for .txt .md .html .htm .pdf .epub "
     ".jsonl .csv .parquet"),
    (dict(corpus="T/broken.jsonl"), DataError,
     "T/broken.jsonl, line 2: not JSON: Expecting value (column 10)"),
    (dict(corpus="T/broken.csv"), DataError,
     "T/broken.csv, line 2: not CSV: unexpected end of data"),
    (dict(corpus="T/short.csv"), DataError, "T/short.csv, line 2: 1 cells, 2 are needed"),
    (dict(corpus="T/other.csv"), DataError,
     "T/other.csv: no column 'text', only id, body: set text_column"),
    (dict(corpus="T/short.csv", text_column="body"), DataError,
     "T/short.csv: no column 'body', only id, text: set text_column"),

    (dict(dictionary="T/empty_term.json"), DataError,
     "T/empty_term.json: the dictionary has 1 error(s):\n"
     "- entry 1 (''): empty term: give it a text or drop it"),
    (dict(dictionary="T/same.json"), DataError, "T/same.json: the dictionary has 1 error(s):\n"
     "- entry 1 ('Orla'): the translation is the term itself: choose another"),
    (dict(dictionary="T/contains.json"), DataError,
     "T/contains.json: the dictionary has 1 error(s):\n"
     "- entry 1 ('Orla'): the translation 'the Quillwick girl' contains the anchored term "
     "'Quillwick': choose another, such as 'the Ashby girl'"),
    (dict(dictionary="T/twice.json"), DataError, "T/twice.json: the dictionary has 1 error(s):\n"
     "- entry 2 ('Orla'): same term as entry 1: drop one or join them, as merge('Orla') does"),
    (dict(prompts="a\0b"), DataError, "'a\\x00b': no file is called that (embedded null byte)"),
    (dict(dictionary="T/absent.json"), DataError,
     "T/absent.json: none of the 1 terms of the dictionary occurs in the corpus: is it the "
     "dictionary of another corpus?"),
    (dict(dictionary="T/lonely.json"), DataError,
     "no sentence of the corpus leads up to an anchored term, so no prompts can be made from it: "
     "give a prompt file"),
    (dict(dictionary="T/broken.json"), DataError, "T/broken.json, line 2: not JSON: "
     "Expecting property name enclosed in double quotes (column 9)"),
    (dict(dictionary="T/broken_dictionary.csv"), DataError,
     "T/broken_dictionary.csv, line 2: not CSV: unexpected end of data"),
    (dict(dictionary="T/key.json"), DataError,
     "T/key.json, entry 1: unknown key 'tranlations'; did you mean 'translations'?"),
    (dict(dictionary="T/list.json"), DataError,
     'T/list.json: not {"entries": […]} and not {"term": "translation", …}'),
    (dict(dictionary="T/trap.npy"), DataError,
     "T/trap.npy: not an array of strings (pickles are never read): …"),

    (dict(prompts="T/none.jsonl"), DataError,
     "T/none.jsonl: no usable record in the 'test' half: set evaluate.half"),
    (dict(prompts="T/tune.jsonl"), DataError,
     "T/tune.jsonl: no usable record in the 'test' half: set evaluate.half"),
    (dict(prompts="T/riddle.jsonl"), DataError,
     "T/riddle.jsonl, record 1: kind must be one of completion, probability, reminded, question, "
     "choice, got 'riddle'"),
    (dict(prompts="T/broken_prompts.jsonl"), DataError,
     "T/broken_prompts.jsonl, line 2: not JSON: Expecting ':' delimiter (column 8)"),
    (dict(prompts="T/kinds.jsonl"), DataError,
     "T/kinds.jsonl, record 1: kind must be one of completion, probability, reminded, question, "
     "choice, got []"),
    (dict(prompts="T/level.jsonl"), DataError,
     "T/level.jsonl, record 1: subtlety must be a whole number from 1 to 10, got None"),
    (dict(prompts="T/cloze.jsonl"), DataError,
     "T/cloze.jsonl, record 1: idiosyncratic must be a list of texts that are not empty, got ['']"),
    (dict(prompts="T/generic.jsonl"), DataError,
     "T/generic.jsonl, record 1: generic must be a list of texts that are not empty, got ' Cole'"),
    (dict(prompts="T/nan.jsonl"), DataError,
     "T/nan.jsonl, line 1: NaN is no number in JSON: give one, or leave it out"),
    (dict(prompts="T/half.jsonl"), DataError,
     "T/half.jsonl, record 1: 'prompt' has half a character in it (\\ud800 to \\udfff): write "
     "the whole one"),
    (dict(prompts="T/mixed.json"), DataError,
     "T/mixed.json, record 2: in an array each record must be "
     '{"prompt": {"references": ["…"], "prompt": "…", "subtlety": 5}}; write others as JSON Lines'),
    (dict(prompts="T/older.json"), DataError,
     "T/older.json, record 1: subtlety must be a whole number from 1 to 10, got 1.5"),
    (dict(prompts="T/cut.json"), DataError,
     "T/cut.json, line 2: not JSON: Expecting ',' delimiter (column 19)"),
    (dict(neighbours="T/near.jsonl"), DataError,
     "T/near.jsonl, record 1: prompt must be a text that is not empty, got ['The sea']"),
    (dict(neighbours="T/nearer.jsonl"), DataError,
     "T/nearer.jsonl, record 1: answers must be a list of texts that are not empty, got [' "
     "black', 7]"),
    (dict(neighbours="T/huge.jsonl"), DataError,
     "T/huge.jsonl, line 1: 1e999 is no number in JSON: give one, or leave it out"),
    (dict(general="T/numbers.jsonl"), DataError,
     "T/numbers.jsonl, record 1: choices must be a list of texts that are not empty, got [3, 4]"),
    (dict(general="T/true.jsonl"), DataError,
     "T/true.jsonl, record 1: answer must be the place of a choice, 0 to 1, got True"),
    (dict(openers="T/kinds.jsonl"), DataError,
     "T/kinds.jsonl, record 1: kind must be a text, got []"),
    (dict(openers="T/deep.jsonl"), DataError,
     "T/deep.jsonl, line 1: nested too deeply: use fewer lists and objects inside each other"),
    (dict(openers="T/nested.jsonl"), DataError,
     "T/nested.jsonl, record 1: 'by' is nested too deeply: use fewer lists and objects inside "
     "each other"),
    (dict(openers="T/digits.jsonl"), DataError,
     "T/digits.jsonl, line 1: a number has thousands of digits: write it as text, or leave it out"),
    (dict(openers="T/surrogate.jsonl"), DataError,
     "T/surrogate.jsonl, record 1: 'opener' has half a character in it (\\ud800 to \\udfff): "
     "write the whole one"),
    (dict(neighbours="T/bare.jsonl"), DataError,
     "T/bare.jsonl, record 1: needs 'prompt' and 'answers'"),
    (dict(general="T/bare.jsonl"), DataError,
     "T/bare.jsonl, record 1: needs 'prompt', 'choices' and 'answer'"),
    (dict(openers="T/bare.jsonl"), DataError, "T/bare.jsonl, record 1: needs 'opener'"),
    (dict(retain_corpus=" "), ConfigError, "retain_corpus is blank: leave it out, or name a file"),
    (dict(holdout="T/empty"), DataError,
     "T/empty: no text found: give a file with words in it"),

    (dict(block_size=256), ConfigError, "block_size 256 exceeds the context: use at most 128"),
    ({"evaluate.max_new_tokens": 65}, ConfigError,
     "evaluate.max_new_tokens 65 leaves less than half of the context of 128 tokens for the "
     "prompt: use at most 64"),
    (dict(model="nobody/made-up"), ModelError,
     "no configuration for model 'nobody/made-up': it is neither smollm2-135m, nor a folder, nor a "
     "hub id that can be reached: check the name and the connection (…"),
    (dict(model="T/slow"), ModelError,
     "the tokenizer of 'T/slow' gives no character offsets; labels are aligned by them: use a "
     "model with a fast tokenizer (tokenizer.json)"),
    (dict(model="T/pickled"), ModelError,
     "T/pickled: pytorch_model.bin is a pickle, which may run code; only safetensors weights are "
     "loaded: if you trust it, load it with transformers and write it again with save_pretrained"),
    (dict(model="T/cut"), ModelError, f"T/cut: no usable weights in this folder: {USABLE}"),
    (dict(model="T/no_tokenizer"), ModelError,
     f"T/no_tokenizer: no usable tokenizer in this folder: {USABLE}"),
    (dict(model="T/nothing"), ModelError,
     f"T/nothing: no usable configuration in this folder: {USABLE}")]


IDS = ["-".join(map(str, changes.values())) for changes,*_ in CASES]


@pytest.mark.parametrize("changes, error, message", CASES, ids=IDS)
def test_refused(job, tmp_path, capsys, changes, error, message):
    "By function and by command, for a new folder and for a finished run."
    def fill(v): return v.replace("T/", f"{job.home}/") if isinstance(v, str) else v
    changes = {k: fill(v) for k,v in changes.items()}
    if "prompts" in changes: changes["n_prompts"] = RunConfig.n_prompts  # for making them
    config, before = configure(job.config, changes), path_hash(job.home)
    (tmp_path/"job.yaml").write_text(to_yaml(config))
    needs_corpus = config.dictionary.endswith(("absent.json", "lonely.json"))
    for out in ("new", "done"):
        with pytest.raises(error) as e: run(config, job.home/out)
        assert type(e.value) is error and same(str(e.value), fill(message))
        code = main(["run", "--config", str(tmp_path/"job.yaml"), "--out", str(job.home/out)])
        assert code == (2 if error is ConfigError else 1) and same(error_of(capsys), fill(message))
        if out == "new" and needs_corpus:                  # what was read of it is kept
            made = {p.name for p in (job.home/out).iterdir()} - {".lock"}
            assert made == {"config.yaml", "manifest.json", "01-corpus"}
            shutil.rmtree(job.home/out)
    assert path_hash(job.home) == before


NUMBER = "labels.alpha must be a number, at least 0, got"
SETTINGS = [
    ("", ["--alpha", "-1"], f"{NUMBER} -1.0: use e.g. 5"),
    ("", ["--alpha", "nan"], f"{NUMBER} nan: use e.g. 5"),
    ("labels: {alpha: .inf}", [], f"job.yaml: {NUMBER} inf: use e.g. 5"),
    ("", ["--lr", "0"],
     "unlearn.lr must be a number above 0, got 0.0: use e.g. 1e-3 for an adapter, "
     "3e-6 for all weights"),
    ("", ["--set", "reinforce.epochs=many"], "reinforce.epochs must be a whole number, got 'many'"),
    ("", ["--block-size", "4"], "block_size must be at least 8 tokens, got 4: use e.g. 256"),
    ("unlern: {lr: 1}", [], "job.yaml: unknown setting 'unlern'; did you mean 'unlearn.lr'?"),
    ("corpsu: a.txt", [], "job.yaml: unknown setting 'corpsu'; did you mean 'corpus'?"),
    ("corpus: 3", [], "job.yaml: corpus must be a path or a list of paths, got 3"),
    ("", ["--corpus", ""], "corpus must be a path or a list of paths, got ['']"),
    ("seed: 1\nlabels: [", [],
     "job.yaml, line 2: not YAML: expected the node content, but found '<stream end>'"),
    ("- seed", [], "job.yaml: a mapping of settings is needed, e.g. 'seed: 1'"),
    ("seed: 1 # caf\udce9", [], "job.yaml: byte 13 is not UTF-8; save the file as UTF-8"),
    ("", ["--set", "labels.alpha"], "--set: KEY=VALUE is needed, got 'labels.alpha'"),
    ("", ["--set", "labels.alfa=2"], "unknown setting 'labels.alfa'; did you mean 'labels.alpha'?"),
    ("", ["--lora-r", "0", "--set", "lora.targets=mlp"],
     "lora.targets would do nothing: lora.r=0 trains all weights, there is no adapter; "
     "leave it at all")]


@pytest.mark.parametrize("yaml, flags, message", SETTINGS)
def test_settings(tmp_path, capsys, monkeypatch, yaml, flags, message):
    "Wrong settings are wrong usage; the file that they come from is named."
    monkeypatch.chdir(tmp_path)
    (tmp_path/"job.yaml").write_bytes(yaml.encode(errors="surrogateescape"))
    assert main(["run", "--config", "job.yaml", "--out", "new", *flags]) == 2
    assert error_of(capsys) == message
    assert [p.name for p in tmp_path.iterdir()] == ["job.yaml"]


@pytest.mark.parametrize("argv, message", [
    (["run", "--labels.alfa", "2"],
     "error: unknown argument --labels.alfa; did you mean --set 'labels.alpha'?"),
    (["fly"], "argument COMMAND: invalid choice: 'fly'"),
    (["report", "runs/a", "--run", "runs/b"], "argument --run: not allowed with argument DIR"),
    (["run", "--preset", "best"], "argument --preset: invalid choice: 'best'")])
def test_usage(capsys, argv, message):
    with pytest.raises(SystemExit) as e: main(argv)
    assert e.value.code == 2 and message in capsys.readouterr().err


def test_places(job, tmp_path, capsys):
    "A file, a foreign folder, a missing settings file and an unfinished run as what they are not."
    no_run = f"{job.home}/empty: not a run folder (no config.yaml in it)"
    for argv, code, message in [
            (["run", "--config", f"{tmp_path}/job.yaml"], 2, f"{tmp_path}/job.yaml: no such file"),
            (["run", "--corpus", "x", "--out", f"{tmp_path}"], 1,
             "corpus: x: no such file or folder"),
            (["chat", "--run", f"{job.home}/empty"], 1, no_run),
            (["chat", "--run", f"{job.home}/done", "--max-new-tokens", "0"], 2,
             "--max-new-tokens must be at least 1, got 0"),
            (["report", "--run", f"{job.home}/empty"], 1, no_run)]:
        assert (main(argv), error_of(capsys)) == (code, message)
    (tmp_path/"job.yaml").write_text(to_yaml(job.config))
    for out, message in (
            ("book.txt", "is a file: choose a folder"),
            ("llama", "is not empty and not a run folder: choose another one")):
        before = path_hash(job.home)
        assert main(["run", "--config", f"{tmp_path}/job.yaml", "--out", f"{job.home}/{out}"]) == 1
        assert error_of(capsys) == f"{job.home}/{out}: {message}" and path_hash(job.home) == before


def test_pickles_are_not_read(job):
    "The trap works, and nothing has sprung it."
    assert not (job.home/"trapped").exists()
    np.load(job.home/"trap.npy", allow_pickle=True)
    (job.home/"trapped").rmdir()


def test_terms_that_do_not_occur(job, tmp_path, capsys):
    "Each is named, five at most."
    write_json(tmp_path/"d.json", NAMES | {f"Zorblax {c}": "Tim" for c in "ABCDEFG"})
    config = configure(job.config, {"dictionary": str(tmp_path/"d.json")})
    run(config, tmp_path/"run", until="dictionary")
    assert ("  5 of 12 anchored terms occur in the corpus, 9 times\n"
            "  warning: never in the corpus: Zorblax A, Zorblax B, Zorblax C, Zorblax D, Zorblax E "
            "and 2 more\n") in capsys.readouterr().err


def test_nothing_found(job, tmp_path, capsys):
    "A corpus without anchored terms, and no dictionary: said before the first fine-tuning."
    text = "the sea is black and the rock is old and nothing else is told here. "
    (tmp_path/"plain.txt").write_text(text*3)
    config = configure(job.config, {"corpus": str(tmp_path/"plain.txt"), "dictionary": None})
    with pytest.raises(DataError) as e: run(config, tmp_path/"run")
    assert str(e.value) == "no anchored term was found in the corpus: give a dictionary"
    assert sorted(p.name for p in (tmp_path/"run").glob("??-*")) == ["01-corpus"]


def test_translation_beyond_the_context(job, tmp_path):
    "A block that fits, but not its translation: said before the first fine-tuning."
    long = "Mary of the long and winding lanes of the old town by the sea "*6
    write_json(tmp_path/"d.json", {"Orla": long})
    config = configure(job.config, {"dictionary": str(tmp_path/"d.json"), "block_size": 100})
    with pytest.raises(DataError) as e: run(config, tmp_path/"run")
    assert re.fullmatch(r"a translated block has \d+ tokens, the model takes 128: "
                        r"use a smaller block_size "
                        r"\(it begins 'Orla Venn keeps the lighthouse of Tarnmo'\)", str(e.value))
    assert not list((tmp_path/"run").glob("*03-translated*"))


# --- what belongs together --------------------------------------------------------------------

def changed_model(folder, out, what):
    "A copy of a model with other weights or another tokenizer."
    shutil.copytree(folder, out/"llama")
    if what == "weights":
        from safetensors.torch import load_file, save_file
        file = out/"llama"/"model.safetensors"
        save_file({k: v+1 for k,v in load_file(file).items()}, file, {"format": "pt"})
    elif what == "tokenizer":
        tok = json.loads((out/"llama"/"tokenizer.json").read_text())
        tok["normalizer"] = {"type": "Lowercase"}
        (out/"llama"/"tokenizer.json").write_text(json.dumps(tok))
    return str(out/"llama")


@pytest.mark.parametrize("what", ["weights", "tokenizer"])
def test_labels_of_another_model(job, tmp_path, capsys, what):
    """Labels that were put into the run: refused before the training.

    Those that the run made itself are made again."""
    model = changed_model(job.home/"llama", tmp_path, what)
    ours = Run(job.home/"done").identity
    other = Run(tmp_path/"run", configure(job.config, {"model": model})).identity
    assert ours != other and ours.startswith("llama@")
    shutil.copytree(job.home/"done", tmp_path/"run")
    shutil.rmtree(tmp_path/"run"/"09-unlearned")
    made = tmp_path/"run"/"08-labels"/"labels"/"made_with.json"
    write_json(made, json.loads(made.read_text()) | {"model": other})
    manifest = json.loads((tmp_path/"run"/"manifest.json").read_text())
    manifest["steps"]["labels"]["outputs"]["labels/made_with.json"] = path_hash(made)
    write_json(tmp_path/"run"/"manifest.json", manifest)
    message = (f"{tmp_path}/run/08-labels/labels: the labels were made with another model "
               f"({other}, not {ours}): remake them, or use the model they were made with")
    argv = ["run", "--config", f"{job.home}/done/config.yaml", "--out", f"{tmp_path}/run"]
    assert main(argv) == 1
    assert capsys.readouterr().err.rpartition("selective-unlearning: ")[2] == message+"\n"
    assert not (tmp_path/"run"/"09-unlearned").exists()
    assert not list((tmp_path/"run").glob(".07-*/checkpoints"))
    with pytest.raises(ModelError) as e:
        read_labels(tmp_path/"run"/"08-labels"/"labels", model=ours)
    assert str(e.value) == message


@pytest.mark.parametrize("what", ["weights", "tokenizer", "place"])
def test_adapter_for_another_base(job, tmp_path, capsys, monkeypatch, what):
    "The base that the run was made with is needed; where it stands does not matter."
    shutil.copytree(job.home/"done", tmp_path/"run")
    config = configure(job.config, {"model": changed_model(job.home/"llama", tmp_path, what)})
    (tmp_path/"run"/"config.yaml").write_text(to_yaml(config))
    before, asked = path_hash(tmp_path/"run"), iter(["Orla"])
    def ask(*args):
        for line in asked: return line
        raise EOFError
    monkeypatch.setattr("builtins.input", ask)
    code = main(["chat", "--run", f"{tmp_path}/run", "--max-new-tokens", "3"])
    was, now = Run(job.home/"done").identity, Run(tmp_path/"run").identity
    assert (code, was == now) == ((0, True) if what == "place" else (1, False))
    if code:
        assert error_of(capsys) == (f"{tmp_path}/run/09-unlearned: the adapter was made for {was}, "
                                    f"not for {now}: load it on its own base")
    assert path_hash(tmp_path/"run") == before


# --- a full disk ------------------------------------------------------------------------------

@pytest.mark.parametrize("lora", [{}, {"lora.r": 0}])
def test_disk_too_small(job, tmp_path, capsys, monkeypatch, lora):
    "Said before the first fine-tuning; all weights need room for 3 checkpoints and 1 model."
    usage = shutil._ntuple_diskusage(10**8, 10**8-10**6, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda p: usage)
    config = configure(job.config, lora)
    (tmp_path/"job.yaml").write_text(to_yaml(config))
    assert main(["run", "--config", f"{tmp_path}/job.yaml", "--out", f"{tmp_path}/run"]) == 1
    size = sum(p.numel() for p in load_model(config.model).parameters())
    need = round(10 + bool(lora)*(3*12+4)*size/1e6)
    assert error_of(capsys) == (f"{tmp_path}/run: the disk has 1 MB free, the run needs about "
                                f"{need} MB: free some, or choose another folder")
    assert not list((tmp_path/"run").glob("*07-reinforced*"))


def fill_once(monkeypatch, name, nth):
    "The disk is full the `nth` time that a file called `name` is written, and then it is not."
    real, left = os.replace, [nth]
    def full(src, dst):
        if os.path.basename(dst) == name:
            left[0] -= 1
            if left[0] == 0: raise OSError(errno.ENOSPC, "No space left on device")
        return real(src, dst)
    monkeypatch.setattr(files_module.os, "replace", full)


def fill_in_checkpoint(monkeypatch, name, nth):
    """The disk is full while the trainer writes a file of its `nth` checkpoint.

    torch says it in its own words."""
    real, left = torch.save, [nth]
    def full(obj, f, *args, **kwargs):
        if os.path.basename(str(f)) == name:
            left[0] -= 1
            if left[0] == 0:
                open(f, "wb").write(b"PK")
                raise RuntimeError("[enforce fail at inline_container.cc:672] . "
                                   "unexpected pos 704 vs 598")
        return real(obj, f, *args, **kwargs)
    monkeypatch.setattr(torch, "save", full)


@pytest.mark.parametrize("fill, name, nth, where", [
    (fill_once, "coverage.json", 1, "/.02-dictionary.part/coverage.json"),
    (fill_once, "loss.json", 1, "/.07-reinforced.part/loss.json"),
    (fill_in_checkpoint, "optimizer.pt", 1, "/.07-reinforced.part/checkpoints/checkpoint-1"),
    (fill_in_checkpoint, "scheduler.pt", 2, "/.09-unlearned.part/checkpoints/checkpoint-1"),
    (fill_once, "sealed.json", 1, "/.07-reinforced.part/checkpoints/checkpoint-1"),
    (fill_once, "made_with.json", 1, "/.08-labels.part/labels/made_with.json"),
    (fill_once, "manifest.json", 5, "/manifest.json"),
    (fill_once, "familiarity.json", 2, "/.10-evaluation.part/familiarity.json"),
    (fill_once, "report.html", 1, "/report.html")])
def test_disk_fills_up(job, tmp_path, capsys, monkeypatch, fill, name, nth, where):
    "One line says so; the same command goes on, and ends as a run that was never stopped."
    config = configure(job.config, {"train.save_steps": 1})
    (tmp_path/"job.yaml").write_text(to_yaml(config))
    with monkeypatch.context() as m:
        fill(m, name, nth)
        assert main(["run", "--config", f"{tmp_path}/job.yaml", "--out", f"{tmp_path}/run"]) == 1
    err = capsys.readouterr().err
    assert err.endswith(f"selective-unlearning: the disk is full ({tmp_path}/run{where}): "
                        "free some space; the same command goes on from here\n")
    assert "Traceback" not in err
    assert main(["run", "--config", f"{tmp_path}/job.yaml", "--out", f"{tmp_path}/run"]) == 0
    assert results(tmp_path/"run") == results(job.home/"done")


def test_stopped_before_the_name(job, tmp_path, monkeypatch):
    "Killed between the manifest and the folder's name: the step is not made again."
    real, stop = type(tmp_path).rename, KeyboardInterrupt()
    def rename(self, target):
        if self.name == ".07-reinforced.part": raise stop
        return real(self, target)
    with monkeypatch.context() as m:
        m.setattr(type(tmp_path), "rename", rename)
        with pytest.raises(KeyboardInterrupt): run(job.config, tmp_path/"run")
    assert not (tmp_path/"run"/"07-reinforced").exists()
    def made(folder):
        return (tmp_path/"run"/folder/"adapter_model.safetensors").stat().st_mtime_ns
    when = made(".07-reinforced.part")
    run(job.config, tmp_path/"run")
    assert made("07-reinforced") == when
    assert results(tmp_path/"run") == results(job.home/"done")


# --- text from outside ------------------------------------------------------------------------

EVIL = "<script>alert(1)</script>"


def test_no_text_becomes_markup(job, tmp_path):
    "Names, sentences and translations that look like HTML, up to the report and the tables."
    (tmp_path/"book.txt").write_text(TEXT.replace("Orla", f"Orla{EVIL}"), encoding="utf-8")
    write_json(tmp_path/"d.json", NAMES | {f"Orla{EVIL}": f"Mary{EVIL}"})
    files = {"corpus": str(tmp_path/"book.txt"), "dictionary": str(tmp_path/"d.json")}
    r = run(configure(job.config, files), tmp_path/"run")
    pages = [(tmp_path/"run"/"report.html").read_text(),
             r.outputs(f"Orla{EVIL}", 4)._repr_html_(), r.dictionary._repr_html_()]
    for page in pages: assert "&lt;script&gt;" in page and "<script" not in page
