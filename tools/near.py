"""The rules of the probes in `near.jsonl`, `harry_potter/homonyms.jsonl` and the fresh of both.

    python tools/near.py        # counts, and how likely the demo's base model finds the answers
    python tools/near.py RUN    # what a run kept of the probes whose names its retain texts have

The first ends with status 1 if the keep rule or the rule on proper nouns is broken.
`tests/test_near.py` holds the files to all rules that need no model. The rule on proper nouns
cannot hold for retain texts, since each run's base model writes them anew.
"""
import argparse, re, sys
from functools import cache
from itertools import chain
from pathlib import Path

from selective_unlearning.core.files import read_jsonl
from selective_unlearning.core.text import TITLES
from selective_unlearning.evaluation.intervals import interval
from selective_unlearning.evaluation.metrics import interval_text
from selective_unlearning.terms.dictionary import Dictionary

DATA = Path(__file__).resolve().parent.parent/"data"
NEAR, HOMONYMS = "near.jsonl", "harry_potter/homonyms.jsonl"
FRESH_NEAR, FRESH_HOMONYMS = "fresh_near.jsonl", "harry_potter/fresh_homonyms.jsonl"
LEAST = .05                               # what the base model must give the answers together
WORD = re.compile(r"[^\W\d_]+")
START = re.compile(r"(?:^|[.!?:]\s|\n)[\"'“‘(]*$")  # what stands before a sentence's first word
ABBREVIATED = re.compile(r"\b(?:Mr|Mrs|Ms|Dr|St|Prof|[A-Z])\.\s$")
SMALL = {*"""a about after all an and another any are as at be before between both but by can could
    did do does each even every few first for from give had has have he her here his how i if in is
    it its last let many may more most much my no not of often on once one only or our over she so
    some somebody someone tell that the their then there these they this those three to two under
    until up was we were what when where which while who whose why will with without write you
    your""".split()}
# titles, days, words of maps and the like: a capital does not make a topic of them
GENERIC = {t.lower() for t in TITLES} | {*"""god man house tale
    big great little new old black red white
    monday tuesday wednesday thursday friday saturday sunday january february march april may june
    july august september october november december
    abbey bridge castle cathedral church city college county forest hill island lake mount mountain
    museum ocean palace park river road school sea square street theatre tower university
    question answer""".split()}


@cache
def lower_words():
    "Words that the project's other texts write in lower case, so that a capital may mean nothing."
    texts = (DATA.glob(f"{folder}/**/*.md") for folder in ("harry_potter", "holdout"))
    files = chain(DATA.glob("*.jsonl"), *texts)
    other = sorted({*files}-{DATA/NEAR, DATA/FRESH_NEAR})
    text = "\n".join(f.read_text(encoding="utf-8") for f in other)
    return {w for w in WORD.findall(text) if w.islower()}


def proper_nouns(text):
    """The words of `text`, in lower case, that its capitals show to be names or parts of names.

    A sentence's first word is one if it stands right before another, or if no other text of the
    project has it in lower case. Small words, titles, days and words of maps are none.
    """
    found = set()
    for m in WORD.finditer(text):
        word, before = m[0].lower(), text[:m.start()]
        if not m[0][0].isupper() or len(word) < 2 or word in SMALL | GENERIC: continue
        first = START.search(before) and not ABBREVIATED.search(before)
        following = re.match(r"[ -]([^\W\d_])", text[m.end():])
        if first and word in lower_words() and not (following and following[1].isupper()): continue
        found.add(word)
    return found


def shared(names, others):
    "Those of `names` that `others` have too; `japan` and `japanese` are the same."
    ends = "n", "an", "ian", "ese", "ish"
    wide = {*others, *(o+e for o in others for e in ends)}
    return {n for n in names if n in wide or any(n+e in others for e in ends)}


def texts_of(probe): return [probe["prompt"]+a for a in probe["answers"]]


def names_of(probes): return set().union(*(proper_nouns(t) for p in probes for t in texts_of(p)))


def half(probes, which):
    "Those of one half; where there are no halves, all are for testing."
    return [p for p in probes if p.get("half", "test") == which]


def read(name): return read_jsonl(DATA/name)


@cache
def seen():
    "The proper nouns of what training or tuning may look at: openers, holdout text, tune halves."
    texts = [r["opener"] for r in read("openers.jsonl")]
    texts += [p.read_text(encoding="utf-8") for p in (DATA/"holdout").glob("*.md")]
    tuned = [p for f in ("neighbours.jsonl", NEAR, HOMONYMS) for p in half(read(f), "tune")]
    return set().union(*map(proper_nouns, texts)) | names_of(tuned)


def known_names(probe, others=None):
    "Proper nouns of a probe among `others` (what is `seen`), the term of a homonym apart."
    own = {w.lower() for w in WORD.findall(probe.get("term", ""))}
    return shared(names_of([probe])-own, seen() if others is None else others)


@cache
def anchored():
    "The dictionary of the demo, and the single words of its terms in lower case."
    d = Dictionary.load(DATA/"harry_potter/dictionary.json")
    words = {w.lower() for t in d.terms for w in WORD.findall(t)}
    return d, words-SMALL


def kept(scored):
    "The keep rule: those whose answers the base model gives at least `LEAST` together."
    return [r for r in scored if r["score"] >= LEAST]


def score(probes):
    "The probes with `score`, the probability that the base model gives to the answers together."
    import torch
    from selective_unlearning.evaluation.utility import neighbour_scores
    from selective_unlearning.models.load import load_model, load_tokenizer
    from selective_unlearning.models.reader import Reader
    name = "smollm2-135m"
    reader = Reader(load_model(name, torch.float32), load_tokenizer(name))
    return neighbour_scores(reader, probes)


def table(scored, by):
    "One line for each group of probes: count, mean, least, greatest, and counts by fifths."
    lines = [f"{'':18}{'n':>5}{'mean':>7}{'least':>7}{'most':>7}   in each fifth of 0 to 1"]
    for key in sorted({by(r) for r in scored}):
        s = sorted(r["score"] for r in scored if by(r) == key)
        fifths = [sum(min(int(5*x), 4) == i for x in s) for i in range(5)]
        lines.append(f"{key:18}{len(s):5}{sum(s)/len(s):7.2f}{s[0]:7.3f}{s[-1]:7.3f}   "
                     + " ".join(f"{n:4}" for n in fifths))
    return "\n".join(lines)


def kept_apart(base, new, names):
    """What is kept of the neighbours and homonyms, and whether they share a name with `names`.

    `group → {"all", "they alone", "without them"} → value, low, high, n` where there are any.
    A group is a ring, the neighbours that have none, or the homonyms."""
    out = {}
    for kind in ("neighbours", "homonyms"):
        for b,u in zip(base[kind], new[kind]):
            group = f"ring {b['ring']}" if "ring" in b else kind
            for which in ("all", "they alone" if known_names(b, names) else "without them"):
                out.setdefault(group, {}).setdefault(which, []).append((u["score"], b["score"]))
    return {g: {w: interval(*zip(*pairs)) for w,pairs in by.items()} for g,by in out.items()}


def retained(run):
    "The proper nouns of a run's retain texts."
    if (rows := run.retain_set) is None: return set()
    texts = run.tokenizer.batch_decode(rows["input_ids"][:], skip_special_tokens=True)
    return set().union(*(proper_nouns(line) for t in texts for line in t.split("\n")))


def of_run(folder):
    "Print what the run kept of the probes that share a proper noun with its retain texts."
    from selective_unlearning.job.run_folder import Run
    run = Run(folder)
    utility = run.report.utility
    print("probes that share a proper noun with a retain text; unlearned / base, 95 % intervals")
    for group,by in kept_apart(utility["base"], utility["unlearned"],
                                retained(run)).items():
        for which in ("all", "they alone", "without them"):
            if i := by.get(which):
                print(f"{group:12}{which:13}{i['n']:5}{i['value']:8.3f}   "
                      + interval_text([i["low"], i["high"]]))


def main():
    probes = [p for f in (NEAR, HOMONYMS, FRESH_NEAR, FRESH_HOMONYMS) for p in read(f)]
    scored, tested = score(probes), half(probes, "test")
    print(table(scored, lambda r: f"{r.get('half', 'fresh')}, " + (
        f"ring {r['ring']}" if "ring" in r else "homonyms")))
    good = kept(scored)
    for r in scored:
        if r not in good: print(f"below {LEAST}: {r['score']:.3f} {r['prompt']} |{r['answers']}")
    for p in tested:
        if names := known_names(p): print(f"seen elsewhere: {sorted(names)} in {p['prompt']}")
    return int(len(good) < len(scored) or any(map(known_names, tested)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", nargs="?", help="folder of a finished run")
    folder = parser.parse_args().run
    sys.exit(of_run(folder) if folder else main())
