"""The measures are measured: they reject a ban on names, and accept who never read the text.

The scores of the first part are made up. In the second, the embedded model is banned from saying
the names of the demo's dictionary, as a filter on its output would do it."""
import random
from contextlib import contextmanager

import pytest
import torch

from selective_unlearning.core.files import data_path
from selective_unlearning.evaluation.control import control
from selective_unlearning.evaluation.measures import probability_scores, read_prompts
from selective_unlearning.evaluation.headline import headline
from selective_unlearning.evaluation.metrics import summarise
from selective_unlearning.evaluation.reading import reading_prompts
from selective_unlearning.evaluation.utility import utility
from selective_unlearning.models.load import load_model, load_tokenizer
from selective_unlearning.models.reader import Reader
from selective_unlearning.terms.dictionary import Dictionary

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
    assert len(report["checks"]) == 14
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


def test_too_few_prompts_are_not_a_pass():
    few = slice(0, 8)
    def some(known): return dict(probability=asked(known, LUCKY)["probability"][few])
    noisy = [g+d for g,d in zip(GUESSED, [.3, -.3]*100)]
    report = summarise(dict(base=some(KNOWN), control=some(GUESSED), unlearned=some(noisy)))
    check = next(c for c in report["checks"] if c["better"] == "equivalent")
    assert check["ok"] is None and "too few prompts to tell" in check["why"]


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
