"Files from outside and files that are made: who may read them, their place, what cannot be read."
import errno, os, re, stat, subprocess, sys, unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, strategies as st

from selective_unlearning.job import run as job, run_folder, steps
from selective_unlearning.models.continuations import complete, continuation_logprobs
from selective_unlearning.models.load import load_model, load_tokenizer
from selective_unlearning.models.reader import Reader
from selective_unlearning.training.checkpoints import RECORD, mend
from selective_unlearning.job.command import main
from selective_unlearning.core.errors import DataError, printable
from selective_unlearning.core.files import path_hash, write_atomic, write_json
from selective_unlearning.job.settings import RunConfig, configure, to_yaml
from selective_unlearning.terms.dictionary import Dictionary
from selective_unlearning.terms.entries import Entry, read_entries
from selective_unlearning.job.export import export_run
from selective_unlearning.job.run import run
from selective_unlearning.corpus.readers import read_corpus
from tiny import TEXT, save_model, settings


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    "A cache of our own, which a run writes to."
    monkeypatch.setenv("SELECTIVE_UNLEARNING_CACHE", str(tmp_path/"cache"))


# --- who may read them ------------------------------------------------------------------------

@pytest.fixture
def umask():
    "Sets the umask until the test ends."
    old = os.umask(0o022)
    yield os.umask
    os.umask(old)


def mode(path): return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("mask", [0o077, 0o022])
def test_a_run_is_as_open_as_the_umask(tmp_path, umask, mask):
    "Every file and folder of a run, its cache and its exports: as open as the umask allows."
    config = settings(tmp_path)
    umask(mask)
    run(config, tmp_path/"run")
    for merged in (False, True): export_run(tmp_path/"run", tmp_path/f"export-{merged}", merged)
    tops = [tmp_path/name for name in ("run", "cache", "export-False", "export-True")]
    made = [p for top in tops for p in (top, *top.rglob("*"))]
    assert len(made) > 50
    def wanted(p): return (0o777 if p.is_dir() else 0o666) & ~mask
    assert {str(p.relative_to(tmp_path)): oct(mode(p)) for p in made if mode(p) != wanted(p)} == {}


@pytest.mark.parametrize("before", [0o600, 0o640, 0o444, 0o666])
def test_a_file_that_is_saved_again_keeps_its_mode(tmp_path, umask, before):
    umask(0o027)
    (tmp_path/"d.json").write_text("old")
    (tmp_path/"d.json").chmod(before)
    write_atomic(tmp_path/"d.json", "new")
    assert ((tmp_path/"d.json").read_text(), mode(tmp_path/"d.json")) == ("new", before)


def test_never_wider_on_the_way(tmp_path, umask, monkeypatch):
    "The hidden file that becomes a private one is private before anything is written to it."
    (tmp_path/"d.json").write_text("old")
    (tmp_path/"d.json").chmod(0o600)
    real, seen = os.open, []
    def watched(*args, **kwargs):
        fd = real(*args, **kwargs)
        seen.append(stat.S_IMODE(os.fstat(fd).st_mode))
        return fd
    monkeypatch.setattr(os, "open", watched)
    write_atomic(tmp_path/"d.json", "new")
    assert seen == [0o600]


def test_a_link_stays_a_link(tmp_path):
    "To a file, to one that is not there yet, and by way of a linked folder."
    (tmp_path/"there").mkdir()
    (tmp_path/"there"/"old.json").write_text("old")
    (tmp_path/"folder").symlink_to("there")
    for name in ("old", "none"): (tmp_path/f"{name}.json").symlink_to(f"there/{name}.json")
    for name in ("old", "none"):
        write_atomic(tmp_path/f"{name}.json", "new")
        assert (tmp_path/f"{name}.json").is_symlink()
        assert (tmp_path/"there"/f"{name}.json").read_text() == "new"
    write_atomic(tmp_path/"folder"/"more.json", "new")
    there = sorted(p.name for p in (tmp_path/"there").iterdir())
    assert there == ["more.json", "none.json", "old.json"]


def test_a_pipe_is_not_replaced(tmp_path):
    "Nor is a device: renaming would put a file in its place."
    os.mkfifo(tmp_path/"pipe")
    (tmp_path/"link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with pytest.raises(OSError, match=f"Not a regular file: '.*{name}'"):
            write_atomic(tmp_path/name, "x")
    assert stat.S_ISFIFO((tmp_path/"pipe").stat().st_mode) and len(list(tmp_path.iterdir())) == 2


# --- what cannot be read ----------------------------------------------------------------------

def lock(monkeypatch, folder):
    "The folder cannot be listed; permission bits would not do, for they do not bind root."
    real = os.scandir
    def scandir(path="."):
        if os.path.realpath(path) == os.path.realpath(folder):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return real(path)
    monkeypatch.setattr(os, "scandir", scandir)


def texts(folder, *names):
    for name in names: write_atomic(folder/name, "An owl.")
    return folder


@pytest.mark.parametrize("locked", ["in", "in/sub", "in/sub/deep", "in/.hidden"])
def test_a_locked_folder_is_named(tmp_path, monkeypatch, locked):
    "In the corpus and in a hash, which covers what is hidden too."
    texts(tmp_path, "in/a.txt", "in/sub/b.txt", "in/sub/deep/c.txt", "in/.hidden/d.txt")
    assert len(read_corpus(tmp_path/"in")) == 3
    lock(monkeypatch, tmp_path/locked)
    for read in (read_corpus, path_hash):
        with pytest.raises(DataError) as e: read(tmp_path/"in")
        assert str(e.value) == (f"{tmp_path/locked}: cannot be read (Permission denied), so its "
                                "contents would be left out: make it readable, or move it away")


@pytest.mark.parametrize("name, target", [("a.txt", "gone.txt"), ("more", "gone"),
                                          ("a.txt", "a.txt"), ("sub/a.md", "../gone")])
def test_a_broken_link_is_named(tmp_path, name, target):
    "Also one without an ending, which may have been a folder of texts, and one to itself."
    texts(tmp_path, "in/b.txt", "in/sub/c.txt")
    (tmp_path/"in"/name).symlink_to(target)
    with pytest.raises(DataError) as e: read_corpus(tmp_path/"in")
    assert str(e.value) == (f"{tmp_path}/in/{name}: is a broken link: mend it, "
                            "or remove it if no text is missing")


def test_links_that_lead_somewhere(tmp_path, capsys):
    """To a file: read, once. To a folder: passed over and said so, also in a circle.

    Hidden: nobody's business."""
    texts(tmp_path, "in/a.txt", "elsewhere/b.txt", "elsewhere/c.txt")
    (tmp_path/"in"/"b.txt").symlink_to(tmp_path/"elsewhere"/"b.txt")
    (tmp_path/"in"/"again.txt").symlink_to("a.txt")
    (tmp_path/"in"/".broken.txt").symlink_to("gone.txt")
    (tmp_path/"in"/"more.txt").symlink_to(tmp_path/"elsewhere")
    (tmp_path/"in"/"circle").symlink_to(".")
    assert read_corpus(tmp_path/"in")["source"][:] == ["a.txt", "b.txt"]
    said = capsys.readouterr().err.partition(", only")[0]
    assert said == (f"  warning: {tmp_path}/in: passed over: no reader for circle (a link to a "
                    "folder), more.txt (a link to a folder)")
    assert len(read_corpus(texts(tmp_path, "real/a.txt")/"real")) == 1
    (tmp_path/"linked").symlink_to("elsewhere")
    assert read_corpus(tmp_path/"linked")["source"][:] == ["b.txt", "c.txt"]


PIPES = """
import resource, sys
from selective_unlearning.job.command import main
# the memory that a device without end may eat
resource.setrlimit(resource.RLIMIT_AS, (2**34, 2**34))
config, *cases = sys.argv[1:]
for flag, path in zip(cases[::2], cases[1::2]):
    argv = ["run", "--out", "new", "--config", path if flag == "--config" else config]
    print(main(argv if flag == "--config" else [*argv, flag, path]), file=sys.stderr, flush=True)
"""


def test_pipes_and_devices_are_refused(tmp_path):
    "Every option that names a file, in a process of its own: nothing hangs, and nothing is made."
    config = settings(tmp_path, **{"lora.r": 16, "n_prompts": RunConfig.n_prompts})
    (tmp_path/"job.yaml").write_text(to_yaml(config))
    kinds = dict(corpus=("txt", "md", "csv", "jsonl", "html", "epub", "pdf", "parquet"),
                 dictionary=("json", "csv", "npy"), adapter=("json",), prompts=("jsonl",),
                 neighbours=("jsonl",), general=("jsonl",), openers=("jsonl",),
                 holdout=("txt",), config=("yaml",))
    for where in ("pipes", "devices"): (tmp_path/where).mkdir()
    cases = []
    for suffix in sorted({s for v in kinds.values() for s in v}):
        os.mkfifo(tmp_path/"pipes"/f"x.{suffix}")
        (tmp_path/"devices"/f"x.{suffix}").symlink_to("/dev/zero")
    for name,suffixes in kinds.items():
        unlisted = name in ("neighbours", "general", "openers", "holdout")
        flag = ("--set", f"{name}=") if unlisted else (f"--{name}", "")
        cases += [(flag[0], f"{flag[1]}{tmp_path}/{where}/x.{s}")
                  for s in suffixes for where in ("pipes", "devices")]
    cases += [("--corpus", "/dev/zero"), ("--config", "/dev/stdin")]
    argv = [sys.executable, "-c", PIPES, str(tmp_path/"job.yaml"),
            *(a for case in cases for a in case)]
    p = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=240,
                       input="seed: 1")
    said = re.findall(r"selective-unlearning: (.*)\n(\d)$", p.stderr, re.M)
    why = "is a pipe or a device, not a regular file: save its output to a file"
    codes = ["2" if flag == "--config" else "1" for flag,_ in cases]
    paths = [value.rpartition("=")[2] for _,value in cases]
    assert said == [(f"{path}: {why}", code) for path,code in zip(paths, codes)]
    assert not (tmp_path/"new").exists()


def test_pipe_in_a_corpus_folder(tmp_path):
    "Named if it might hold text."
    texts(tmp_path, "in/a.txt")
    os.mkfifo(tmp_path/"in"/"x.pdf")
    with pytest.raises(DataError, match="in/x.pdf: is a pipe or a device, not a regular file"):
        read_corpus(tmp_path/"in")


def test_too_large_a_file(tmp_path, capsys):
    "Told before it is read; a film beside the texts is nobody's business."
    texts(tmp_path, "in/a.txt")
    for name in ("in/film.mp4", "b.txt", "d.npy", "d.json"):
        with open(tmp_path/name, "wb") as f: f.truncate(10**12)
    assert len(read_corpus(tmp_path/"in")) == 1
    assert "no reader for film.mp4" in capsys.readouterr().err
    for read, name in ((read_corpus, "b.txt"), (read_entries, "d.npy"), (read_entries, "d.json")):
        why = f"{name}: has 1,000,000,000,000 bytes, at most 1,000,000,000 are read"
        with pytest.raises(DataError, match=why):
            read(tmp_path/name)


# --- what reaches the terminal ----------------------------------------------------------------

EVIL = "a\x1b[2J\x07\x9b31m\x7f\r\x00\u202eb\u2066\udce9"
SHOWN = r"a\x1b[2J\x07\x9b31m\x7f\r\x00\u202eb\u2066\udce9"
NAME = EVIL.replace("\0", "")            # what a file can be called, and what can be typed
SHOWN_NAME = SHOWN.replace(r"\x00", "")


def obeyed(text):
    "What is in a text that a terminal would not just show, or could not."
    turns = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    signs = "Cc", "Cs", "Zl", "Zp"
    return [c for c in text if c in turns or c not in "\n\t" and unicodedata.category(c) in signs]


@given(st.text(st.characters(exclude_categories=())))
def test_printable(text):
    "Nothing is obeyed, nothing that can be shown is lost, and nothing changes twice."
    shown = printable(text)
    assert not obeyed(shown) and printable(shown) == shown
    shown.encode()
    assert obeyed(text) or shown == text
    assert "\n" not in printable(text, lines=False) and "\t" not in printable(text, lines=False)


def test_warnings_are_shown(tmp_path, capsys):
    """Names of files that are passed over, of damaged checkpoints, and terms from a dictionary.

    Each is told in one line."""
    home = tmp_path/(NAME+"\n")
    texts(home, "a.txt", f"{NAME[:-1]}\n.jpg")  # without the byte that is refused in a name
    (home/"checkpoint-1").mkdir()
    write_json(home/RECORD, [])                # of a training of ours
    read_corpus(home)
    mend(home)
    Dictionary((Entry("owl", "cat"), Entry(f"Orla{EVIL[:-1]}", "Mary"))).coverage("An owl.")
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3
    for text in said:
        assert not obeyed(text) and r"a\x1b[2J\x07\x9b31m\x7f" in text and "\n" not in text


def test_errors_are_shown(tmp_path, capsys, monkeypatch):
    "Paths, columns, flags and values, through our errors and argparse's."
    monkeypatch.chdir(tmp_path)
    (tmp_path/"x.jsonl").write_text(r'{"a\u001b[2J\u009b\u202e\udce9": 1}')
    model = save_model(tmp_path/"llama", "llama")
    capsys.readouterr()
    for argv, shown in [
            (["run", "--corpus", f"{NAME}.txt"], f"corpus: {SHOWN_NAME}.txt: no such file"),
            (["run", "--config", NAME], f"{SHOWN_NAME}: no such file"),
            (["run", "--corpus", "x.jsonl", "--model", model, "--block-size", "64"],
             r"no column 'text', only a\x1b[2J\x9b\u202e\udce9"),
            (["report", "--run", NAME], f"{SHOWN_NAME}: not a run folder"),
            (["run", f"--{NAME}"], SHOWN_NAME),
            (["run", "--alpha", NAME], r"a\x1b[2J"),
            ([NAME], r"a\x1b[2J"),
            (["run", "--preset", NAME], r"a\x1b[2J")]:
        try: main(argv)
        except SystemExit: pass
        err = capsys.readouterr().err
        assert not obeyed(err) and shown in err, argv


def test_progress_and_answers_are_shown(tmp_path, capsys, monkeypatch):
    "What a run says meanwhile, what a model writes in `chat`, and the path a command ends with."
    steps.say(f"[1/10] corpus: writes {EVIL}")
    asked = iter(["Orla", "exit"])
    class Stub:
        tokenizer = SimpleNamespace(chat_template=None)
        def __init__(self, folder, **kwargs): pass
        def made(self, step): return tmp_path
        def answers(self, *args):
            return [{"outputs": dict(base=f"one\ntwo {EVIL}", unlearned=EVIL)}]
    def ask(*args):
        if not (line := next(asked, None)): raise EOFError
        return line
    monkeypatch.setattr("builtins.input", ask)
    monkeypatch.setattr(run_folder, "Run", Stub)
    monkeypatch.setattr(job, "rewrite_report", lambda run: Path(EVIL))
    (tmp_path/"config.yaml").touch()
    assert main(["chat", str(tmp_path)]) == main(["report", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert not obeyed(said.err+said.out)
    assert said.err == f"[1/10] corpus: writes {SHOWN}\n"
    assert said.out.splitlines()[-1] == SHOWN and said.out.replace("\n", "").count(r"\x1b[2J") == 5


def test_no_bar_where_nothing_is_asked(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    folder = save_model(tmp_path/"model", "llama")
    reader = Reader(load_model(folder), load_tokenizer(folder))
    for n in (0, 1):
        continuation_logprobs(reader, [("a", "b")]*n, progress="measured")
        complete(reader, ["a"]*n, 2, progress="written")
        err = capsys.readouterr().err
        assert ("measured" in err, "written" in err) == (n > 0, n > 0)


def test_a_name_that_cannot_be_printed(tmp_path):
    "Bytes of a name that are not UTF-8: printing them to a strict terminal must not be what fails."
    code = ("import sys; from selective_unlearning.core.errors import printable; "
            "print(printable(sys.argv[1]))")
    p = subprocess.run([sys.executable, "-c", code, b"caf\xe9"], capture_output=True,
                       env=os.environ | {"PYTHONIOENCODING": "utf-8:strict"})
    assert (p.returncode, p.stdout) == (0, b"caf\\udce9\n")


# --- where a run may stand --------------------------------------------------------------------

@pytest.mark.parametrize("name", ["corpus", "holdout"])
@pytest.mark.parametrize("out", ["in/run", "in/sub/run", "in/.hidden/run", "link/run",
                                 "in/link/run", "in/../in/run"])
def test_a_run_inside_what_it_reads(tmp_path, monkeypatch, capsys, name, out):
    "Refused before anything is made: its report would be read as text the next time."
    config = settings(tmp_path)
    texts(tmp_path, "in/a.txt", "in/sub/b.txt")
    (tmp_path/"link").symlink_to("in")
    (tmp_path/"in"/"link").symlink_to("sub")
    before, given = path_hash(tmp_path), "link" if out.startswith("in/s") else "in"
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as e: run(configure(config, {name: given}), out)
    assert str(e.value) == (f"{Path(out)}: lies in {given}, which is read as {name}, and would be "
                            "read with it the next time: choose a folder outside of it")
    assert path_hash(tmp_path) == before and not (tmp_path/"cache").exists()
    with pytest.raises(DataError, match="which is read as"):
        run(configure(config, {name: str(tmp_path/given)}), tmp_path/out)


def test_a_run_that_was_made_before_its_corpus_was_wider(tmp_path):
    "A finished run is refused too, and stays what it was."
    config = settings(tmp_path)
    run(config, tmp_path/"in"/"run", until="corpus")
    texts(tmp_path, "in/a.txt")
    before = path_hash(tmp_path/"in")
    with pytest.raises(DataError, match="lies in .*, which is read as corpus"):
        run(configure(config, {"corpus": str(tmp_path/"in")}), tmp_path/"in"/"run")
    assert path_hash(tmp_path/"in") == before


def test_a_run_beside_what_it_reads(tmp_path):
    """A file in the same folder, and a folder whose name only begins alike.

    And a file in the run folder itself."""
    config = settings(tmp_path)
    texts(tmp_path, "in/a.txt")
    run(config, tmp_path/"run", until="corpus")
    write_atomic(tmp_path/"run"/"notes"/"a.txt", TEXT)
    config = configure(config, {"corpus": str(tmp_path/"run"/"notes")})
    def made(): return (tmp_path/"run"/"01-corpus").stat().st_ino
    run(config, tmp_path/"run", until="corpus")
    before = made()
    run(config, tmp_path/"run", until="corpus")
    assert made() == before
    config = configure(config, {"corpus": [str(tmp_path/"in"), str(tmp_path/"book.txt")]})
    run(config, tmp_path/"in-run-2", until="corpus")


def test_a_name_that_is_not_utf8_is_named(tmp_path):
    config = settings(tmp_path)
    odd = os.path.join(os.fsencode(tmp_path/"books"), b"caf\xe9.txt")
    (tmp_path/"books").mkdir()
    with open(odd, "w") as f: f.write("Orla lives here.")
    config = configure(config, {"corpus": str(tmp_path/"books")})
    with pytest.raises(DataError, match=r"books: the name 'caf.udce9.txt' is not UTF-8: rename"):
        run(config, tmp_path/"run", until="corpus")
