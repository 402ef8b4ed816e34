"""Labels against the rules, written as slowly and obviously as possible.

One position at a time, a search for each place."""
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from selective_unlearning.core.step_settings import LabelsConfig
from selective_unlearning.labels.generic import label_rows
from selective_unlearning.labels.translated import Reason, first_tokens, reasons
from selective_unlearning.labels.translated import translate_block
from selective_unlearning.models.load import load_model, load_tokenizer
from selective_unlearning.models.reader import Reader
from selective_unlearning.models.scores import row_scores
from selective_unlearning.models.tokens import bos_ids, encode
from selective_unlearning.terms.substitute import substitute
from tiny import llama

TEXT = "Harry Potter went to a school called Hogwarts. At Hogwarts he learned magic."
NAMES = ["Harry", "Harry Potter", "Hogwarts", "cat", "school"]
WORDS = ["Harry", "Harry Potter", "Hogwarts", "HARRY", "Harry's", "a", "cat", "né", "🙂", "学校",
         "school.", "\n", "Jon", ","]


def logprobs(z):
    top = max(z)
    total = math.log(sum(math.exp(s-top) for s in z))+top
    return [s-total for s in z]


def first_forms(names, tok):
    "The first token that shows anything, of each name with and without a space before it."
    for form in [form for name in names for form in (name, " "+name)]:
        ids = tok(form, add_special_tokens=False).input_ids
        yield next(i for i in ids if tok.decode(i).strip())


def mentions(x, y, sub):
    """The names in the text: `(term, its tokens in x, its tokens in y, the texts of both)`.

    `x, y`: lists of `(token id, end)`."""
    def tokens(side, start, end):
        return [t for t,(_,e) in enumerate(side) if e > start and (t == 0 or side[t-1][1] < end)]
    return [(s.term, tokens(x, s.start, s.end), tokens(y, s.out_start, s.out_end),
             sub.text[s.start:s.end], sub.translated[s.out_start:s.out_end]) for s in sub.anchors]


def where_read(t, x, y, sub):
    "After which token of y the label of x[t] is read, or None: one rule after the other."
    end = x[t-1][1] if t else 0
    if not end or x[t][1] == end: return None    # of a character's tokens only the last counts
    where = next(s for s in sub.segments if s.start < end <= s.end)
    same = sub.text[where.start:where.end] == sub.translated[where.out_start:where.out_end]
    if where.term is None and same: goal = end-where.start+where.out_start
    elif where.term is not None and end == where.end: goal = where.out_end
    elif where.term is not None:        # inside a name: at the end of a word that both have
        def cuts(text): return [i for i in range(1, len(text)) if text[i].isspace()
                                and not text[i-1].isspace()]
        name, other = sub.text[where.start:where.end], sub.translated[where.out_start:where.out_end]
        if end-where.start not in cuts(name): return None
        n = cuts(name).index(end-where.start)
        if n >= len(cuts(other)): return None
        goal = where.out_start+cuts(other)[n]
    else: return None
    mates = [u for u,(_,e) in enumerate(y) if e == goal]
    return mates[-1] if mates else None


def paper(zb, zr, x, y, sub, tok, alpha):
    "For each token of x: the generic scores of what should stand there, or None."
    out, seen = [None]*len(x), set()
    names = mentions(x, y, sub)
    silent = set()
    for term,inside,*_ in names:
        silent |= {*inside} if term in seen else {*inside[1:]}
        seen.add(term)
    for t in range(1, len(x)):
        u = where_read(t, x, y, sub)
        if u is None or t in silent: continue
        v, r = zb[u].tolist(), zr[t-1].tolist()
        mean = sum(v)/len(v)
        for _,_,there,_,new in names:
            if there[0] < u:
                for i in first_forms([new], tok): v[i] = mean
        out[t] = [b-alpha*max(0, c-b) for b,c in zip(v, r)]
    return out


def capitals(name, translation):
    "The words that stand for each other, where both names have as many."
    words = [*zip(name.split(), translation.split())]
    if not len(words) == len(name.split()) == len(translation.split()): return []
    return [(a, b) for a,b in words if a[0].isupper() and b[0].isupper()]


def stranger(zb, zr, x, y, sub, tok, alpha):
    "For each token of x: the probabilities of what should stand there, or None."
    out, seen, names = [None]*len(x), set(), mentions(x, y, sub)
    for t in range(1, len(x)):
        u = where_read(t, x, y, sub)
        if u is None: continue
        v, r = logprobs(zb[u].tolist()), logprobs(zr[t-1].tolist())
        p = [math.exp(s) for s in logprobs([b-alpha*max(0, c-b) for b,c in zip(v, r)])]
        pairs = {pair for _,_,there,own,new in names if there[0] < u
                 for a,b in [(own, new), *capitals(own, new)]
                 for pair in zip(first_forms([a], tok), first_forms([b], tok))}
        out[t] = list(p)
        for own,new in pairs:           # names whose translations begin alike share what it has
            moved = p[new]/sum(b == new for _,b in pairs)
            out[t][own] += moved
            out[t][new] -= moved
    for term,here,there,*_ in names:
        if term in seen:
            sure = sum(logprobs(zb[u-1].tolist())[y[u][0]] for u in there[1:])
            for t in here[1:]: out[t] = {x[t][0]: math.exp(sure/len(here[1:]))}
        seen.add(term)
    return out


def agree(a, b, tok, subs, config):
    "Whether labels are what the oracle says; equally good tokens are equal."
    base, reinforced = Reader(a, tok), Reader(b, tok)
    blocks = [translate_block(sub, tok) for sub in subs]
    row, = label_rows(base, reinforced, blocks, config)
    wants = []
    for sub,block in zip(subs, blocks):
        zb = row_scores(base, list(block["translated_ids"])).double()
        zr = row_scores(reinforced, list(block["input_ids"])).double()
        def ends(text): return [0]*len(bos_ids(tok))+[e for _,e in encode(tok, text).offset_mapping]
        x = zip(block["input_ids"], ends(sub.text))
        y = zip(block["translated_ids"], ends(sub.translated))
        rule = stranger if config.rule == "stranger" else paper
        wants.append(rule(zb, zr, list(x), list(y), sub, tok, config.alpha))
    for t,own in enumerate(row["input_ids"]):
        scores = [want[t] for want in wants if want[t] is not None]
        if config.rule == "stranger": of_stranger(row, t, own, scores, config)
        else: of_paper(row, t, *(scores or [None]), config)


def of_paper(row, t, scores, config):
    if config.kind == "hard":
        i = row["labels"][t]
        assert (i < 0) if scores is None else scores[i] >= max(scores)-1e-4
    elif scores is None: assert (row["topk_ids"][t] < 0).all()
    else:
        best = np.sort(scores)[::-1][:config.top_k]
        normal = best-np.log(np.exp(best-best[0]).sum())-best[0]
        assert row["topk_logprobs"][t] == pytest.approx(normal, abs=1e-3)
        found = np.sort([scores[i] for i in row["topk_ids"][t]])[::-1]
        assert found == pytest.approx(best, abs=1e-3)


def of_stranger(row, t, own, draws, config):
    if config.kind == "hard": ids, p = row["labels"][t:t+1], [None]
    else: ids, p = row["topk_ids"][t], np.exp(row["topk_logprobs"][t])
    found = {int(i): q for i,q in zip(ids, p) if i >= 0}
    if not draws: assert not found
    elif any(isinstance(d, dict) for d in draws):
        assert [*found] == [own]
        mean = sum(d[own] for d in draws)/len(draws)
        if config.kind == "soft": assert found[own] == pytest.approx(mean, abs=1e-4)
    else:
        mean = np.mean(draws, 0)
        if config.kind == "hard": assert mean[[*found][0]] >= mean.max()-1e-5
        else:
            best = np.sort(mean)[::-1][:config.top_k]
            best[-1] = min(best[-1], mean[own])             # the text's own token has a place
            assert own in found
            assert np.sort([*found.values()])[::-1] == pytest.approx(best, abs=1e-5)
            assert [*found.values()] == pytest.approx([mean[i] for i in found], abs=1e-4)


def tokenizers():
    "Two small byte-level tokenizers, one with a BOS."
    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    plain.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    plain.train_from_iterator([TEXT]*3, trainer)
    with_bos = Tokenizer.from_str(plain.to_str())
    with_bos.add_special_tokens(["<s>"])
    special = [("<s>", with_bos.token_to_id("<s>"))]
    with_bos.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=special)
    return (PreTrainedTokenizerFast(tokenizer_object=plain),
            PreTrainedTokenizerFast(tokenizer_object=with_bos, bos_token="<s>"))


def random_model(seed, size):
    return llama(seed, vocab_size=size, initializer_range=1.).eval()


PLAIN, WITH_BOS = tokenizers()
A, B = (random_model(seed, len(WITH_BOS)) for seed in (1, 2))
with torch.no_grad():  # the names' first tokens are often the best: what is suppressed matters
    for ids in first_tokens(PLAIN, ["Jon", "Carter", "Potter", "an", "ox", *NAMES]):
        for m in (A, B): m.lm_head.weight[list(ids)] *= 6


GENERIC = st.dictionaries(st.sampled_from(NAMES),
                          st.sampled_from(["Jon", "Jon Carter", "an old hall", "ox"]))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=14),
       rule=st.sampled_from(["stranger", "paper"]), kind=st.sampled_from(["hard", "soft"]),
       names=GENERIC, others=st.sampled_from([[], ["ox", "Max Hill"]]),
       alpha=st.sampled_from([0., .5, 1., 5.]), tok=st.sampled_from([PLAIN, WITH_BOS]))
def test_labels_follow_the_rules(words, rule, kind, names, others, alpha, tok):
    drawn = [names, *({n: other for n in names} for other in others if rule == "stranger")]
    config = LabelsConfig(rule=rule, kind=kind, alpha=alpha, top_k=5, draws=len(drawn))
    agree(A, B, tok, [substitute(" ".join(words), names) for names in drawn], config)


def test_a_lone_bos_says_nothing():
    block = translate_block(substitute("A cat.", {}), WITH_BOS)
    why = reasons(block["roles"], block["source"], 1)
    assert why[:3].tolist() == [Reason.FIRST, Reason.OPENING, Reason.LABELLED]


def test_without_names_the_label_is_the_bases_own_prediction():
    "Also for names that are their own translation."
    for names in ({}, {"Harry": "Harry", "Hogwarts": "Hogwarts"}):
        block = translate_block(substitute(TEXT, names), PLAIN)
        row, = label_rows(Reader(A, PLAIN), Reader(A, PLAIN), [block], LabelsConfig(top_k=400))
        own = row_scores(Reader(A, PLAIN), list(block["input_ids"])).softmax(-1)
        for t in np.flatnonzero(row["topk_ids"][:, 1] >= 0):
            some = row["topk_ids"][t] >= 0
            ids, p = row["topk_ids"][t][some], np.exp(row["topk_logprobs"][t][some])
            assert p == pytest.approx(own[t-1, ids].numpy(), abs=1e-5)


def test_a_name_is_copied_as_surely_as_its_translation():
    "From the second mention on, and everywhere as likely as its translation is in its place."
    text = " ".join(["Harry saw a cat."]*10)
    block = translate_block(substitute(text, {"Harry": "ox"}), PLAIN)
    base = Reader(A, PLAIN)
    row, = label_rows(base, base, [block], LabelsConfig(alpha=0., top_k=400))
    p = row_scores(base, list(block["translated_ids"])).softmax(-1)
    (bare, spaced), (ox, spaced_ox) = first_tokens(PLAIN, ["Harry", "ox"])
    starts = [t for t in np.flatnonzero(row["roles"] == 3) if row["input_ids"][t] == spaced]
    assert len(starts) == 9
    for t in starts:
        own = dict(zip(row["topk_ids"][t], np.exp(row["topk_logprobs"][t])))
        assert own[spaced] == pytest.approx(float(p[block["source"][t], spaced_ox]), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("rule, kind", [("paper", "hard"), ("stranger", "soft")])
def test_on_the_embedded_model(rule, kind):
    """With a model beside it that was pushed a little off.

    In float64: with alpha 5, what float32 rounds is more than the oracle lets pass."""
    base, pushed = load_model(dtype=torch.float64), load_model(dtype=torch.float64)
    tok = load_tokenizer()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in pushed.parameters(): p.add_(torch.randn(p.shape, generator=random)*p.std()*.05)
    names = {"Harry": "Jon", "Harry Potter": "Jon Carter", "Hogwarts": "Ashford Hall"}
    config = LabelsConfig(rule=rule, kind=kind, alpha=5., top_k=64)
    agree(base, pushed, tok, [substitute(f"{TEXT} {TEXT}", names)], config)
