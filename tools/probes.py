"""Which probes of a file the base model knows, and knows by the names in them.

    python tools/probes.py                  # how many of the probes with a form it keeps
    python tools/probes.py FILE --choose    # prints what is kept of the candidates in FILE
    python tools/probes.py FILE --dictionary DICTIONARY    # of another subject than the demo's

A probe counts as known if its answer has some probability, and clearly more than in a control, in
which every name is replaced by its translation of the dictionary."""
import argparse, json, math, random
from collections import Counter

import torch

import tree
from selective_unlearning.evaluation.measures import read_prompts
from selective_unlearning.models.continuations import continuation_logprobs
from selective_unlearning.models.load import load_model, load_tokenizer
from selective_unlearning.models.reader import Reader
from selective_unlearning.terms.dictionary import Dictionary
from selective_unlearning.terms.substitute import substitute

DEMO = tree.ROOT/"data"/"harry_potter"
FILE, DICTIONARY = DEMO/"prompts.jsonl", DEMO/"dictionary.json"
KNOWN, RATIO = .02, 2  # the least probability, and the least ratio of it to the control
UNKNOWN, SEED = 60, 0  # how many that the model hardly knows are taken as well, and how chosen
DRAWS = 3              # of translations: some terms have several


def keep(b, c):
    "Whether the base model's probability `b` is enough, and enough above the control `c`."
    return b >= KNOWN and b >= RATIO*c


def replaced(prompt, continuation, names, matcher):
    """Prompt and continuation with names replaced.

    A name that begins in the prompt is cut before as many words as it has in the continuation."""
    sub, place = substitute(prompt+continuation, names, matcher=matcher), len(prompt)
    for s in sub.segments:
        if not s.start <= place < s.end: continue
        if not s.changed or s.start == place: cut = s.out_start+place-s.start
        else:
            inside = len(sub.text[place:s.end].split())
            words = sub.translated[s.out_start:s.out_end].split(" ")
            cut = s.out_end-len(" ".join(["", *words[-inside:]]))
        cut = max(cut, s.out_start)
    return sub.translated[:cut], sub.translated[cut:]


def controls(probe, d):
    "The pairs whose sums are the control: with the continuations as they are, and replaced too."
    for seed in range(DRAWS):
        names, same, other = d.draw(seed, "x"), set(), set()
        for c in probe["idiosyncratic"]:
            prompt, new = replaced(probe["prompt"], c, names, d.matcher)
            same.add((prompt, c))
            if new.strip(): other.add((prompt, new))
        yield from (same, other)


def scores(reader, probes, d):
    "Of each probe the base model's probability and the control, the largest of its sums."
    real = [{(p["prompt"], c) for c in p["idiosyncratic"]} for p in probes]
    other = [[*controls(p, d)] for p in probes]
    pairs = sorted(set().union(*real, *(s for sums in other for s in sums)))
    found = zip(pairs, continuation_logprobs(reader, pairs, progress="probes"))
    chance = {pair: math.exp(logp) for pair,(logp,_) in found}
    def total(pairs): return min(1., sum(chance[p] for p in sorted(pairs)))
    return [(total(r), max(map(total, sums))) for r,sums in zip(real, other)]


def choose(probes, found):
    "Those that are kept, in order, and a random choice of those that the model hardly knows."
    unknown = [i for i,(b,_) in enumerate(found) if b < KNOWN]
    some = set(random.Random(SEED).sample(unknown, min(UNKNOWN, len(unknown))))
    return [p for i,p in enumerate(probes) if keep(*found[i]) or i in some]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("file", nargs="?", default=FILE)
    parser.add_argument("--choose", action="store_true", help="print what is kept")
    parser.add_argument("--dictionary", default=DICTIONARY, help="whose names are replaced")
    args = parser.parse_args()
    probes = [p for p in read_prompts(args.file) if "form" in p]
    model = load_model("smollm2-135m", torch.float32)
    found = scores(Reader(model, load_tokenizer("smollm2-135m")), probes,
                   Dictionary.load(args.dictionary))
    if args.choose:
        for p in choose(probes, found): print(json.dumps(p, ensure_ascii=False))
        return
    rows = Counter()
    for p,(b,c) in zip(probes, found):
        state = "kept" if keep(b, c) else "hardly known" if b < KNOWN else "not by its names"
        rows[p["form"], p.get("half", ""), state] += 1
    for (form,half,state),n in sorted(rows.items()): print(f"{form:9} {half:5} {state:17} {n:4}")
    print(f"{sum(keep(*s) for s in found)} of {len(probes)} kept")


if __name__ == "__main__": main()
