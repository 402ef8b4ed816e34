"`chat`: a conversation with each of two models, side by side."

from types import SimpleNamespace

import pytest

from selective_unlearning.evaluation.reading import reading_prompts
from selective_unlearning.job import run_folder
from selective_unlearning.job.command import main
from selective_unlearning.job.run import run
from selective_unlearning.models.continuations import complete, next_tokens
from selective_unlearning.models.load import load_tokenizer
from selective_unlearning.models.reader import Reader
from selective_unlearning.terms.dictionary import Dictionary, Entry
from tiny import NAMES, llama, sentencepiece_like, settings


@pytest.fixture
def talk(tmp_path, monkeypatch):
    "Types lines into `chat`; returns what each model was given to read."
    def type_lines(lines, *options, tokenizer=None):
        read, line = dict(base=[], unlearned=[]), iter(lines)

        class Stub:
            def __init__(self, folder, **kwargs): self.tokenizer = tokenizer or load_tokenizer()

            def made(self, step): assert step == "unlearned"

            def answers(self, prompts, max_new_tokens, models):
                model, = models
                read[model] += prompts
                return [dict(outputs={model: f"{model} says {len(read[model])}"})]

        def ask(*args):
            for said in line: return said
            raise EOFError
        monkeypatch.setattr("builtins.input", ask)
        monkeypatch.setattr(run_folder, "Run", Stub)
        (tmp_path/"config.yaml").touch()
        assert main(["chat", str(tmp_path), *options]) == 0
        return read
    return type_lines


def test_each_model_remembers_its_own_answers(talk):
    read = talk(["Who keeps owls?", "And where?"])
    for model, (first, second) in read.items():
        assert "Who keeps owls?" in first and "says" not in first
        turns = ["Who keeps owls?", f"{model} says 1", "And where?"]
        assert [second.count(t) for t in turns] == [1, 1, 1]
        assert sorted(turns, key=second.index) == turns
    assert "unlearned says" not in "".join(read["base"])
    assert "base says" not in "".join(read["unlearned"])


def test_an_empty_line_begins_anew(talk):
    read = talk(["Who keeps owls?", "  ", "And where?"])
    for first, second in read.values(): assert "owls" in first and "owls" not in second


def test_messages_from_a_pipe_stand_before_their_answers(talk, monkeypatch, capsys):
    def lines(typed):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(isatty=lambda: typed))
        talk(["Who keeps owls?", "And\x1b[2J where?"])
        said = capsys.readouterr().out.splitlines()
        return [line for line in said if line[0] == ">" or "base says" in line]
    answers = [line for line in lines(True) if "base says" in line]
    assert lines(True) == answers and len(answers) == 2
    assert lines(False) == ["> Who keeps owls?", answers[0], r"> And\x1b[2J where?", answers[1]]


def test_quit_ends(talk):
    "A line of its own does; within a line it is part of a message."
    read = talk(["Say /quit now.", "/quit", "And where?"])
    assert all(len(texts) == 1 and "/quit now" in texts[0] for texts in read.values())


def test_help_is_printed_and_not_asked(talk, capsys):
    read = talk(["/help", "Who keeps owls?"])
    assert "/quit or Ctrl-D ends" in capsys.readouterr().out
    assert all(len(texts) == 1 and "/help" not in texts[0] for texts in read.values())


def test_ctrl_c_stops_what_does_not_go_on(talk, capsys):
    def stops():
        raise KeyboardInterrupt
        yield
    with pytest.raises(AssertionError, match="130"): talk(stops())
    assert capsys.readouterr().err == "selective-unlearning: stopped\n"


@pytest.mark.parametrize("options, tokenizer", [
    (["--plain"], None), ([], SimpleNamespace(chat_template=None))])
def test_without_the_chat_format_each_text_is_alone(talk, options, tokenizer):
    read = talk(["Who keeps owls?", "", "And where?"], *options, tokenizer=tokenizer)
    assert all(texts == ["Who keeps owls?", "And where?"] for texts in read.values())


def test_a_format_that_writes_the_bos_is_read_with_one():
    "The reader puts one before every text; Llama's own chat format begins with it too."
    tokenizer = sentencepiece_like()
    reader = Reader(llama(vocab_size=len(tokenizer)), tokenizer)
    tokenizer.pad_token = tokenizer.eos_token
    assert next_tokens(reader, "<s>Orla lives") == next_tokens(reader, "Orla lives")
    assert complete(reader, ["<s>Orla lives"], 4) == complete(reader, ["Orla lives"], 4)


def test_the_chat_form_of_reading_opens_as_the_model_is_asked():
    "With the format's own BOS, unless the reader adds one itself."
    llama_like, embedded = sentencepiece_like(), load_tokenizer()
    llama_like.chat_template = "<s>[INST] {{ messages[0]['content'] }} [/INST]"
    names = Dictionary(Entry(term, new) for term,new in NAMES.items())
    chats = {tok: [r["prompt"] for r in reading_prompts(names, tok) if r["form"] == "chat"]
             for tok in (llama_like, embedded)}
    assert {p[:6] for p in chats[llama_like]} == {"[INST]"}
    assert {p[:12] for p in chats[embedded]} == {embedded.bos_token}


def test_an_unfinished_run_is_refused_before_anything_is_asked(tmp_path, capsys, monkeypatch):
    run(settings(tmp_path), tmp_path/"run", until="dictionary")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    capsys.readouterr()
    assert main(["chat", str(tmp_path/"run")]) == 1
    out, err = capsys.readouterr()
    assert not out and "09-unlearned: is not made yet" in err
