"""Files of prompts, probes, items and openers.

Whatever they hold, they are refused, or can be measured and saved."""
import json

import pytest
import torch
from hypothesis import example, given, settings as tries, strategies as st

from selective_unlearning.models.reader import Reader
from selective_unlearning.evaluation import measures
from selective_unlearning.core.errors import ConfigError, DataError
from selective_unlearning.core.files import read_json, read_jsonl, write_json
from selective_unlearning.evaluation.measures import read_prompts, write_prompts
from selective_unlearning.models.continuations import complete
from selective_unlearning.terms.match import TermMatcher
from selective_unlearning.models.load import load_model, load_tokenizer
from selective_unlearning.job.run import run
from selective_unlearning.models.sampling import opener_ids, read_openers
from selective_unlearning.evaluation.metrics import summarise
from selective_unlearning.evaluation.prompts import reminded
from selective_unlearning.evaluation.utility import neighbour_scores, read_general, read_neighbours
from tiny import save_model, settings

# --- any value in any field -------------------------------------------------------------------

GOOD = {
    "completion": dict(kind="completion", prompt="Orla lives in", references=["Tarnmoor"],
                       subtlety=4, half="test"),
    "probability": dict(kind="probability", prompt="Orla", idiosyncratic=[" Venn"],
                        generic=[" Cole"]),
    "reminded": dict(kind="reminded", prompt="Orla keeps a lamp.\nOrla", idiosyncratic=[" Venn"]),
    "question": dict(kind="question", prompt="Who?", answers=["Orla"], topic="people"),
    "choice": dict(kind="choice", prompt="Orla keeps", choices=["a lamp", "a cat"], answer=1),
    "neighbour": dict(prompt="The sea is", answers=[" black"], topic="sea", half="tune"),
    "general": dict(prompt="The lamp is", choices=["old", "sea"], answer=0),
    "opener": dict(opener="A lamp", kind="chat")}
NAMES = [*dict.fromkeys(n for r in GOOD.values() for n in r), "by"]

some_texts = "", " ", "\ud800", "a\udfff", "tune", "choice", "Orla"
texts = st.text(max_size=5) | st.sampled_from(some_texts)
simple = st.none() | st.booleans() | st.integers(-2, 12) | st.floats() | texts
values = st.recursive(
    simple, lambda v: st.lists(v, max_size=3) | st.dictionaries(texts, v, max_size=2), max_leaves=6)


class Toy:
    "Stands in for model and tokenizer, and does with a text what both do."
    chat_template = "{{ messages[0].content }}"
    bos_token_id, config = None, None
    def __call__(self, text, **_): return {"input_ids": list(text.encode())}
    def apply_chat_template(self, messages, **_): return "".join(m["content"] for m in messages)


@pytest.fixture(scope="module")
def toy():
    "Measures that ask no model: short continuations are likely, and all that is written is `Orla`."
    def logprobs(reader, pairs, progress=""):
        lengths = [len((p+c).encode())-len(p.encode()) for p,c in pairs]
        assert all(lengths), "a continuation without tokens is certain"
        return [(-float(n), n) for n in lengths]
    def complete(reader, prompts, max_new_tokens, progress):
        return ["Orla" for p in prompts if p.encode()]
    with pytest.MonkeyPatch.context() as m:
        m.setattr(measures, "continuation_logprobs", logprobs)
        m.setattr(measures, "complete", complete)
        yield Toy()


def measured(toy, kind, path):
    "What the steps of a run do with a file."
    if kind == "opener": return [opener_ids(toy, r) for r in read_openers(path)]
    if kind == "neighbour": return neighbour_scores(Reader(toy, toy), read_neighbours(path))
    if kind == "general": return measures.choice_scores(Reader(toy, toy), read_general(path))
    records, terms = read_prompts(path), TermMatcher(["Orla"])
    records += reminded(records, facts=1)
    def of(kind): return [p for p in records if p["kind"] == kind]
    scores = dict(probability=measures.probability_scores(Reader(toy, toy), of("probability")),
                  reminded=measures.probability_scores(Reader(toy, toy), of("reminded")),
                  choice=measures.choice_scores(Reader(toy, toy), of("choice")),
                  question=measures.question_scores(Reader(toy, toy), of("question")),
                  completion=measures.completion_scores(Reader(toy, toy), of("completion"), terms))
    assert sum(map(len, scores.values())) == len(records)
    by = {m: {k: v for k,v in scores.items() if v} for m in ("base", "reinforced", "unlearned")}
    nothing = dict(neighbours=[], general=[], holdout=[])
    return by, summarise(by, dict(base=nothing, unlearned=nothing))


@tries(max_examples=400, deadline=None)
@given(kind=st.sampled_from([*GOOD]),
       changes=st.dictionaries(st.sampled_from(NAMES), values, min_size=1, max_size=2),
       lost=st.sets(st.sampled_from(NAMES), max_size=1))
@example("completion", {"subtlety": None}, set())
@example("completion", {"subtlety": True}, set())
@example("completion", {"references": [""]}, set())
@example("completion", {"by": float("nan")}, set())
@example("completion", {"by": float("inf")}, set())
@example("completion", {"by": "\ud800"}, set())
@example("completion", {"kind": []}, set())
@example("probability", {"generic": " Cole"}, set())
@example("probability", {"generic": [""]}, set())
@example("probability", {"fact": "lamp", "idiosyncratic": [" Cole"]}, set())
@example("question", {"answers": [""]}, set())
@example("choice", {"answer": True}, set())
@example("neighbour", {"answers": [7]}, set())
@example("neighbour", {"prompt": ["The sea"]}, set())
@example("neighbour", {"generic": 7}, set())
@example("general", {"choices": {"old": 1}}, set())
@example("opener", {"opener": "\udfff"}, set())
def test_any_value(toy, tmp_path_factory, kind, changes, lost):
    "One short line with the number of the record or line; or else all goes well to the end."
    path = tmp_path_factory.getbasetemp()/"any.jsonl"
    record = {k: v for k,v in (GOOD[kind] | changes).items() if k not in lost}
    path.write_text(f"{json.dumps(GOOD[kind])}\n{json.dumps(record)}\n", encoding="utf-8")
    try: done = measured(toy, kind, path)
    except DataError as e:
        assert str(e).startswith((f"{path}, record 2: ", f"{path}, line 2: "))
        assert len(str(e)) < len(str(path))+220
        assert str(e).isprintable()
    else: write_json(path.with_name("done.json"), done)


@pytest.mark.parametrize("value, why", [
    ("NaN", "line 2: NaN is no number in JSON: give one, or leave it out"),
    ("-Infinity", "line 2: -Infinity is no number in JSON: give one, or leave it out"),
    ("1e999", "line 2: 1e999 is no number in JSON: give one, or leave it out"),
    ("9"*5000, "line 2: a number has thousands of digits: write it as text, or leave it out"),
    ("["*10**5, "line 2: nested too deeply: use fewer lists and objects inside each other"),
    ("["*60+"]"*60,
     "record 2: 'by' is nested too deeply: use fewer lists and objects inside each other"),
    (r'"\ud83d"',
     r"record 2: 'by' has half a character in it (\ud800 to \udfff): write the whole one")])
@pytest.mark.parametrize("read, kind", [
    (read_prompts, "completion"), (read_neighbours, "neighbour"), (read_general, "general"),
    (read_openers, "opener")])
def test_damaged_json(tmp_path, read, kind, value, why):
    "What no field of any file may hold, in one that is not even looked into."
    good = json.dumps(GOOD[kind])
    (tmp_path/"f.jsonl").write_text(f'{good}\n{good[:-1]}, "by": {value}}}\n')
    with pytest.raises(DataError) as e: read(tmp_path/"f.jsonl")
    assert str(e.value) == f"{tmp_path}/f.jsonl, {why}"


# --- the older format of prompts --------------------------------------------------------------

words = st.text(min_size=1, max_size=8).filter(str.strip)
halves = st.sampled_from(["tune", "test"])
prompts = st.builds(
    lambda p, r, more: dict(kind="completion", prompt=p, references=r) | more,
    words, st.lists(words, max_size=3),
    st.fixed_dictionaries({}, optional={"subtlety": st.integers(1, 10), "half": halves,
                                        "by": words}))


@tries(max_examples=60, deadline=None)
@given(st.lists(prompts, min_size=1, max_size=4))
def test_formats_hold_the_same(tmp_path_factory, records):
    "What is written in either format is read back as it was."
    for name in ("p.json", "p.jsonl"):
        assert read_prompts(write_prompts(tmp_path_factory.getbasetemp()/name, records)) == records


OLDER = '{"prompt": {"references": ["…"], "prompt": "…", "subtlety": 5}}'
OLD = {"prompt": {"references": ["Tarnmoor"], "prompt": "Orla lives in", "subtlety": 4}}


def test_older_format(tmp_path):
    "As it is found; and a damaged record is named by its number."
    write_json(tmp_path/"p.json", [OLD])
    assert read_prompts(tmp_path/"p.json", "test") == [dict(kind="completion", **OLD["prompt"])]
    assert read_json(write_prompts(tmp_path/"q.json", read_prompts(tmp_path/"p.json"))) == [OLD]
    shape = f"record 2: in an array each record must be {OLDER}; write others as JSON Lines"
    def inside(**changes): return {"prompt": OLD["prompt"] | changes}
    for second, why in [
            ({"prompt": "Orla"}, shape), (["prompt"], shape), (OLD | {"half": "test"}, shape),
            (GOOD["completion"], shape),
            (inside(references=None),
             "record 2: a completion prompt needs 'prompt' and 'references'"),
            (inside(subtlety=11),
             "record 2: subtlety must be a whole number from 1 to 10, got 11")]:
        write_json(tmp_path/"p.json", [OLD, second])
        with pytest.raises(DataError) as e: read_prompts(tmp_path/"p.json")
        assert str(e.value) == f"{tmp_path}/p.json, {why}"


def test_run_with_the_older_format(tmp_path):
    "The command takes it; the run keeps JSON Lines, and reports completions alone."
    write_json(tmp_path/"evaluation_prompts.json", [OLD, OLD])
    r = run(settings(tmp_path, prompts=str(tmp_path/"evaluation_prompts.json")), tmp_path/"run")
    written = read_jsonl(r.path("prompts")/"prompts.jsonl")
    assert written == [dict(kind="completion", **OLD["prompt"])]*2
    assert [*r.results["familiarity"]] == ["completion"]


# --- prompts and the context ------------------------------------------------------------------

def test_a_prompt_keeps_its_end(tmp_path, monkeypatch):
    "Long ones lose their beginning; with an answer over half of the context nothing is asked."
    folder, read = save_model(tmp_path/"llama", "llama"), []
    model, tok = load_model(folder), load_tokenizer(folder)
    def generate(input_ids, **_):
        read.append(input_ids[0].tolist())
        return torch.cat([input_ids, input_ids[:, :1]], 1)
    monkeypatch.setattr(model, "generate", generate)
    short, long = "Orla lives in Quillwick", "Orla lives in Quillwick. "*40
    def ids(text): return tok(text, add_special_tokens=False)["input_ids"]
    for prompt in (short, long): complete(Reader(model, tok), [prompt], 64)
    bos = [tok.bos_token_id]
    assert len(ids(long)) > 128 and read == [bos+ids(short), bos+ids(long)[-63:]]
    with pytest.raises(ConfigError) as e: complete(Reader(model, tok), [short], 65)
    assert str(e.value) == ("max_new_tokens 65 leaves less than half of the context of 128 tokens "
                            "for the prompt: use at most 64")
    assert len(read) == 2
