"""The measures are measured: they reject a ban on names, and accept who never read the text.

The scores of the first part are made up. In the second, small models are trained with a text of 48
facts, without it, and then with the hinge alone. In the third, the embedded model is banned from
saying the names of the demo's dictionary, as a filter on its output would do it."""
import copy, random
from contextlib import contextmanager

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast

from selective_unlearning.core.files import data_path
from selective_unlearning.core.step_settings import FinetuneConfig
from selective_unlearning.evaluation.control import control
from selective_unlearning.evaluation.measures import probability_scores, read_prompts
from selective_unlearning.evaluation.headline import headline
from selective_unlearning.evaluation.metrics import summarise
from selective_unlearning.evaluation.reading import reading_prompts
from selective_unlearning.evaluation.utility import neighbour_scores, utility
from selective_unlearning.labels.align import Role
from selective_unlearning.models.load import load_model, load_tokenizer
from selective_unlearning.models.reader import Reader
from selective_unlearning.terms.dictionary import Dictionary
from selective_unlearning.training.trainer import finetune
from tiny import llama

FORMS = "name", "plain", "reversed", "alias", "indirect"
rng = random.Random(0)
KNOWN = [rng.uniform(.3, .9) for _ in range(200)]            # by the base model, prompt by prompt
GUESSED = [b*rng.uniform(.05, .4) for b in KNOWN]            # by the control
CHOSEN, LUCKY = [1.]*80+[0.]*20, [.25]*60+[.0]*40            # right choices of the two


def records(scores, **more):
    return [dict(prompt=str(i), score=s, **more) for i,s in enumerate(scores)]


def asked(known, chosen, reminded=None):
    """Answers about the text; five prompts ask for each fact, one in each form.

    Each fact is asked for once more after others, and answered as likely as before or as given."""
    facts = [r | dict(form=FORMS[i % 5], fact=str(i//5)) for i,r in enumerate(records(known))]
    again = [r | dict(score=s) for r,s in zip(facts[::5], (reminded or known)[::5])]
    return dict(probability=facts, reminded=again, choice=records(chosen, entropy=.5))


def kept(share=1., reading=None, stand_ins=.1):
    near = [r | dict(ring=1+i % 3, topic="x") for i,r in enumerate(records([.6*share]*90))]
    read = records([.5*(share if reading is None else reading)]*60, form="plain", names="anchored")
    return dict(reading=read, reading_other=records([.5*share]*60), homonyms=records([.4*share]*80),
                neighbours=near, general=records([1.]*300+[0.]*100),
                holdout=[r | dict(tokens=100) for r in records([3.]*20)],
                stand_ins=records([float(i < 60*stand_ins) for i in range(60)]))


def judged(known, chosen, after=None, reminded=None):
    "The report on a model that gives these answers, and the paths of the checks that it fails."
    scores = dict(base=asked(KNOWN, CHOSEN), control=asked(GUESSED, LUCKY),
                  unlearned=asked(known, chosen, reminded))
    report = summarise(scores, dict(base=kept(), unlearned=after or kept()))
    assert len(report["checks"]) == 15
    return report, {c["path"] for c in report["checks"] if c["ok"] is False}


def test_the_control_passes_every_check():
    report, failed = judged(GUESSED, LUCKY)
    assert not failed and all(c["ok"] for c in report["checks"])
    assert report["forgotten"]["probability"] == report["forgotten"]["absolute"] == 0


def test_what_guesses_as_well_in_other_places_passes():
    "As a twin would, that was trained without the text: no answer is the control's own."
    noise = random.Random(1)
    twin = [c+noise.uniform(-.05, .05) for c in GUESSED]
    report, failed = judged(twin, LUCKY)
    assert not failed and 0 < report["forgotten"]["absolute"] < .1


def test_the_base_fails():
    report, failed = judged(KNOWN, CHOSEN)
    assert failed == {"forgotten.probability", "forgotten.absolute", "forgotten.choice",
                      "forgotten.by_form.plain.probability",
                      "forgotten.by_form.reminded.probability"}
    assert report["forgotten"]["probability"] == pytest.approx(1)


def test_a_ban_on_names_fails_on_both_sides():
    report, failed = judged([c/50 for c in GUESSED], [0.]*100, kept(reading=.2))
    assert failed >= {"forgotten.probability", "forgotten.absolute", "forgotten.choice",
                      "ratio.reading", "forgotten.by_form.plain.probability"}
    assert report["forgotten"]["probability"] < -.2 and "names are avoided" in headline(report)
    assert report["ratio"]["probability"] < .01               # what a ban wins


def test_half_known_and_half_banned_does_not_cancel():
    still = sum(GUESSED)/sum(KNOWN[i] for i in range(0, 200, 2))
    known = [b*still if i % 2 == 0 else 0. for i,b in enumerate(KNOWN)]
    report, failed = judged(known, LUCKY)
    assert report["forgotten"]["probability"] == pytest.approx(0, abs=1e-9)
    assert "forgotten.absolute" in failed


def test_the_worst_form_is_found():
    alias = [KNOWN[i] if i % 5 == 3 else c for i,c in enumerate(GUESSED)]
    report, _ = judged(alias, LUCKY)
    assert report["forgotten"]["worst_form"] == "alias"
    assert report["forgotten"]["worst"] == pytest.approx(1)
    assert report["forgotten"]["by_form"]["plain"]["probability"] == 0


def test_what_hides_until_it_is_reminded_fails():
    report, failed = judged(GUESSED, LUCKY, reminded=KNOWN)
    assert failed == {"forgotten.by_form.reminded.probability"}
    assert report["forgotten"]["probability"] == 0
    assert report["forgotten"]["worst_form"] == "reminded"


@pytest.mark.parametrize("share, failed", [
    (.951, {"rings.2.ratio", "rings.3.ratio"}), (.98, {"rings.3.ratio"}), (1., set())])
def test_nearer_rings_may_lose_more(share, failed):
    assert judged(GUESSED, LUCKY, kept(share))[1] == failed


def test_stand_ins_in_other_answers_are_seen():
    report, failed = judged(GUESSED, LUCKY, kept(stand_ins=.2))
    assert failed == {"stand_ins.rise"}
    assert report["stand_ins"] == pytest.approx(dict(base=.1, unlearned=.2, rise=10.))


def test_too_few_facts_are_not_a_pass():
    few = slice(0, 8)
    def some(known): return dict(probability=asked(known, LUCKY)["probability"][few])
    noisy = [g+d for g,d in zip(GUESSED, [.3, -.3]*100)]
    report = summarise(dict(base=some(KNOWN), control=some(GUESSED), unlearned=some(noisy)))
    check = next(c for c in report["checks"] if c["better"] == "equivalent")
    assert check["ok"] is None and "too few facts to tell" in check["why"]


# --- small models that were trained -----------------------------------------------------------

FIRST = "Ada Ben Cora Dan Eve Finn Gwen Hal Ida Jack Kate Leo".split()
LAST = "Ash Birch Cole Dale Elm Ford Gray Hill Irving Jay King Lake".split()
ASKED = {"{} works as a": "baker clerk miller smith tailor weaver".split(),
         "{} lives in": "Ashby Borley Carden Denby Elton Farley".split(),
         "The friend of {} is": FIRST}
PEOPLE = random.Random(0).sample([f"{a} {b}" for a in FIRST for b in LAST], 144)


def told(people, rng):
    "Prompts and answers, one of each kind about each of the people, drawn at random."
    return [(asked.format(p), " "+rng.choice([a for a in answers if a not in p]))
            for p in people for asked,answers in ASKED.items()]


NEAR, TEXT, OTHER = (told(PEOPLE[i:i+16], random.Random(i)) for i in (0, 16, 32))
SMALL_TALK = [t for i in range(20) for t in told(PEOPLE[48:], random.Random(i))]


def word_tokenizer():
    words = [w for p in PEOPLE for asked in ASKED for w in asked.format(p).split()]
    words += [a for answers in ASKED.values() for a in answers]
    ids = {w: i for i,w in enumerate(dict.fromkeys(["?", *words]))}
    tok = Tokenizer(models.WordLevel(ids, "?"))
    tok.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tok, pad_token="?")


TOK = word_tokenizer()


def token_ids(texts):
    return TOK([p+a for p,a in texts], padding=True, return_tensors="pt")["input_ids"]


def has_read(texts, seed=0, steps=300):
    "A model that knows the texts by heart, and nothing but chances of anybody else."
    model = llama(seed, vocab_size=len(TOK), hidden_size=64, intermediate_size=128,
                  num_hidden_layers=1)
    known, talk = token_ids(texts), token_ids(SMALL_TALK)
    optimizer = torch.optim.AdamW(model.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps)
    for some in torch.randint(len(talk), (steps, 32)):
        ids = torch.cat([talk[some], known])
        logits = model(ids).logits[:, :-1]
        cross_entropy(logits.mT, ids[:, 1:], ignore_index=TOK.pad_token_id).backward()
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
    return model.eval()


@pytest.fixture(scope="module")
def base(): return has_read(NEAR+TEXT)


def judged_against(base, model):
    "The report on a small model, with the base as it reads other names for a control."
    prompts = [dict(kind="probability", prompt=p, idiosyncratic=[a], fact=p,
                    form="name" if a[1:] in FIRST else "plain") for p,a in TEXT]
    near = [dict(prompt=p, answers=[a], ring=1) for p,a in NEAR]
    names = Dictionary.from_mapping(dict(zip(PEOPLE[16:32], PEOPLE[48:])))
    scores = dict(control=control(Reader(base, TOK), prompts, names, n=1))
    kept = {}
    for name,m in dict(base=base, unlearned=model).items():
        scores[name] = dict(probability=probability_scores(Reader(m, TOK), prompts))
        kept[name] = dict(neighbours=neighbour_scores(Reader(m, TOK), near))
    report = summarise(scores, kept)
    return report, {c["path"]: c["ok"] for c in report["checks"] if c["ok"] is not None}


def test_a_twin_that_read_another_text_passes(base):
    """The control is the base under other names; the twin was trained like it, without the text.

    Of eight seeds all passed the checks on forgetting, and seven the one on the neighbours."""
    report, made = judged_against(base, has_read(NEAR+OTHER))
    assert report["familiarity"]["probability"]["base"] > .9
    assert report["familiarity"]["probability"]["unlearned"] < .2
    assert {"forgotten.probability", "forgotten.absolute", "rings.1.ratio",
            "forgotten.by_form.plain.probability"} <= {*made}
    assert all(made.values()), made


def hinged(model, texts, folder):
    "The model after training with the hinge alone on the answers in the texts."
    rows = [TOK(p+a)["input_ids"] for p,a in texts]
    rows = Dataset.from_list([dict(input_ids=r, labels=[-100]*len(r),
                                   roles=[Role.CONTEXT]*(len(r)-1)+[Role.START]) for r in rows])
    model = copy.deepcopy(model)
    finetune(model, TOK, rows, FinetuneConfig(epochs=8, lr=2e-3, batch_size=8, hinge_weight=1.),
             out=folder)
    return model


def test_a_hinge_on_all_answers_is_rejected_as_a_ban(base, tmp_path):
    report, made = judged_against(base, hinged(base, TEXT, tmp_path))
    assert report["ratio"]["probability"] < .1                # it would have won by this
    assert report["intervals"]["forgotten"]["probability"][1] < 0
    assert "names are avoided" in headline(report)
    assert not made["forgotten.probability"] and not made["rings.1.ratio"]


def test_a_hinge_on_names_leaves_what_is_no_name(base, tmp_path):
    names = [(p, a) for p,a in TEXT if a[1:] in FIRST]
    report, made = judged_against(base, hinged(base, names, tmp_path))
    assert report["forgotten"]["by_form"]["name"]["probability"] < .05
    assert report["forgotten"]["worst_form"] == "plain"
    assert not made["forgotten.by_form.plain.probability"] and not made["forgotten.absolute"]


# --- the embedded model -----------------------------------------------------------------------

@contextmanager
def banned(model, ids, by=10.):
    "The model with the scores of some tokens lowered."
    def lower(_module, _args, out):
        out.logits[..., ids] -= by
        return out
    hook = model.register_forward_hook(lower)
    try: yield
    finally: hook.remove()


@pytest.mark.slow
def test_a_filter_on_the_output_is_rejected():
    names = Dictionary.load(data_path("harry_potter/dictionary.json"))
    reader = Reader(load_model(dtype=torch.float32), load_tokenizer())
    prompts = [p for p in read_prompts(data_path("harry_potter/prompts.jsonl"), "test")
               if p["kind"] == "probability"]
    read = reading_prompts(names, reader.tokenizer)
    words = {w for e in names for w in e.term.split() if w[0].isupper()}
    ids = sorted({reader.tokenizer(f" {w}")["input_ids"][0] for w in words})
    def measured():
        return (dict(probability=probability_scores(reader, prompts)),
                utility(reader, [], [], [], reading=read))
    base, before = measured()
    with banned(reader.model, ids): filtered, after = measured()
    scores = dict(base=base, control=control(reader, prompts, names), unlearned=filtered)
    def judge(kept): return summarise({m: {"probability": [*filter(kept, kinds["probability"])]}
                                       for m,kinds in scores.items()},
                                      dict(base=before, unlearned=after))
    whole = judge(lambda r: True)
    assert whole["forgotten"]["worst_form"] == "plain"        # a ban on names leaves other words
    assert whole["intervals"]["forgotten"]["worst"][0] > .9
    report = judge(lambda r: r["form"] != "plain")            # where the answer is a name
    for failed in ({c["path"] for c in r["checks"] if c["ok"] is False} for r in (whole, report)):
        assert {"forgotten.probability", "ratio.reading"} <= failed
    assert report["ratio"]["probability"] < .05               # it would have won by this
    assert report["intervals"]["forgotten"]["probability"][1] < 0
    assert "names are avoided" in headline(report)
