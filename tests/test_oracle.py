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
from selective_unlearning.labels.translated import Reason, first_tokens, translate_block
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


def oracle(zb, zr, x, y, sub, tok, config):
    """For each token of x: the generic scores of what should stand there, or None.

    `x, y`: lists of `(token id, end)`."""
    out, seen, starts, n_bos, role = [None]*len(x), set(), [], sum(end == 0 for _,end in x), {}
    for s in sub.anchors:
        inside = [t for t,(_,e) in enumerate(x) if e > s.start and (t == 0 or x[t-1][1] < s.end)]
        role |= {t: "inside" for t in inside} | {inside[0]: "again" if s.term in seen else "first"}
        names = [sub.translated[s.out_start:s.out_end]]*(config.suppress != "none")
        names += [sub.text[s.start:s.end]]*(config.suppress == "both")
        starts.append((next(u for u,(_,e) in enumerate(y) if e > s.out_start), names))
        seen.add(s.term)
    for t in range(len(x)-1):
        end = x[t][1]
        if t < n_bos or x[t+1][1] == end: continue  # of a character's tokens only the last counts
        where = next(s for s in sub.segments if s.start < end <= s.end)
        same = sub.text[where.start:where.end] == sub.translated[where.out_start:where.out_end]
        if where.term is None and same: goal = end-where.start+where.out_start
        elif where.term is not None and end == where.end: goal = where.out_end
        else: continue
        mates = [u for u,(_,e) in enumerate(y) if e == goal]
        silent = role.get(t+1) == "inside" or role.get(t+1) == "again" and not config.repeats
        if not mates or silent: continue
        u = mates[-1]
        v, r = zb[u].tolist(), zr[t].tolist()
        if config.space == "logprob": v, r = logprobs(v), logprobs(r)
        mean = sum(v)/len(v)
        for start,names in starts:
            if start < u:
                for i in first_forms(names, tok): v[i] = mean
        out[t+1] = [b-config.alpha*max(0, c-b) for b,c in zip(v, r)]
    return out


def agree(a, b, tok, sub, config):
    "Whether labels are what the oracle says; equally good tokens are equal."
    base, reinforced, block = Reader(a, tok), Reader(b, tok), translate_block(sub, tok)
    zb = row_scores(base, list(block["translated_ids"])).float()
    zr = row_scores(reinforced, list(block["input_ids"])).float()
    def ends(text): return [0]*len(bos_ids(tok))+[e for _,e in encode(tok, text).offset_mapping]
    x = zip(block["input_ids"], ends(sub.text))
    y = zip(block["translated_ids"], ends(sub.translated))
    want = oracle(zb, zr, list(x), list(y), sub, tok, config)
    row, = label_rows(base, reinforced, block, config)
    for t,scores in enumerate(want):
        if config.kind == "hard":
            i = row["labels"][t]
            assert (i < 0) if scores is None else scores[i] >= max(scores)-1e-4
        elif scores is None: assert (row["topk_ids"][t] < 0).all()
        else:
            best = np.sort(scores)[::-1][:config.top_k]/config.temperature
            normal = best-np.log(np.exp(best-best[0]).sum())-best[0]
            assert row["topk_logprobs"][t] == pytest.approx(normal, abs=1e-3)
            found = np.sort([scores[i] for i in row["topk_ids"][t]])[::-1]/config.temperature
            assert found == pytest.approx(best, abs=1e-3)


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
    for ids in first_tokens(PLAIN, ["Jon", "an", "ox", *NAMES]):
        for m in (A, B): m.lm_head.weight[list(ids)] *= 6


@settings(max_examples=150, deadline=None, derandomize=True)
@given(words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=14),
       kind=st.sampled_from(["hard", "soft"]),
       names=st.dictionaries(st.sampled_from(NAMES),
                             st.sampled_from(["Jon", "Jon Carter", "an old hall", "ox"])),
       alpha=st.sampled_from([0., .5, 1., 5.]), space=st.sampled_from(["logit", "logprob"]),
       repeats=st.booleans(), heat=st.sampled_from([1., 2.]),
       which=st.sampled_from(["translations", "both", "none"]),
       tok=st.sampled_from([PLAIN, WITH_BOS]))
def test_labels_follow_the_rules(words, names, kind, alpha, space, which, repeats, heat, tok):
    config = LabelsConfig(kind=kind, alpha=alpha, space=space, suppress=which, repeats=repeats,
                          top_k=5, temperature=heat)
    agree(A, B, tok, substitute(" ".join(words), names), config)


def test_a_lone_bos_says_nothing():
    block = translate_block(substitute("A cat.", {}), WITH_BOS)
    assert block["reasons"][:3].tolist() == [Reason.FIRST, Reason.OPENING, Reason.LABELLED]


@pytest.mark.slow
@pytest.mark.parametrize("kind, space", [("hard", "logit"), ("soft", "logprob")])
def test_on_the_embedded_model(kind, space):
    "With a model beside it that was pushed a little off."
    base, pushed = load_model(dtype=torch.float32), load_model(dtype=torch.float32)
    tok = load_tokenizer()
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in pushed.parameters(): p.add_(torch.randn(p.shape, generator=random)*p.std()*.05)
    names = {"Harry": "Jon", "Harry Potter": "Jon Carter", "Hogwarts": "Ashford Hall"}
    config = LabelsConfig(kind=kind, space=space, alpha=5., top_k=64)
    agree(base, pushed, tok, substitute(f"{TEXT} {TEXT}", names), config)
