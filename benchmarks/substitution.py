"""How fast anchored terms are replaced: `substitute` against other ways to replace many words at
once.

The text is the demo corpus, its sentences shuffled again and again to 10 MB; the dictionaries hold
the demo's 895 terms (100 of them in the smallest) and made-up names that never occur. The peers are
given every form of every term that ours looks for, plurals and capitals too, so that all do nearly
the same work; none of them keeps track of positions or mends articles. They are flashtext2 (Rust),
one compiled regular expression, and a plain loop over words that looks up the longest run of them.
Automaton, expression and tables are made before. The slow peers read the first part of the text
only; all take turns, five times, and the median of the paired ratios is kept.
"""
import random, re, statistics, sys, time

from faker import Faker

from run import save
from selective_unlearning.core.files import data_path
from selective_unlearning.terms.dictionary import Dictionary
from selective_unlearning.terms.match import TermMatcher
from selective_unlearning.terms.substitute import substitute

try: from flashtext2 import KeywordProcessor
except ImportError: sys.exit("flashtext2 is missing: pip install 'selective_unlearning[bench]'")

REPEATS, MB = 5, 10**6
SIZES = (100, 1_500, 10_000)
PEERS = {"flashtext2": 1.2, "one compiled expression": 40.,
         "one compiled expression of the terms as listed": 40.,
         "a loop over words": 1.2}  # targets; for the expressions, that of 1,500 terms


def long_text(size, seed=0):
    "The corpus in sentences, shuffled anew each time round, five to a paragraph."
    files = sorted(data_path("harry_potter/corpus").glob("*.md"))
    corpus = "\n\n".join(p.read_text(encoding="utf-8") for p in files)
    sentences, rng, out, length = re.split(r"(?<=[.!?])\s+", corpus), random.Random(seed), [], 0
    while length < size:
        rng.shuffle(sentences)
        out += ["\n\n".join(" ".join(sentences[i:i+5]) for i in range(0, len(sentences), 5))]
        length += len(out[-1])
    return "\n\n".join(out)[:size]


def made_up(n, text, terms, seed=0):
    "Names that do not occur, each with another such name."
    fake, names = Faker("en_GB"), {}
    fake.seed_instance(seed)
    while len(names) < n:
        name = fake.name()
        if name not in text and name not in terms: names[name] = fake.name()
    return names


def expression(terms):
    "Any of the terms as a whole word, the longest first."
    longest_first = map(re.escape, sorted(terms, key=len, reverse=True))
    return re.compile(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)")


class Replacers:
    "Ours and the peers, ready to replace the terms of one mapping."
    def __init__(self, mapping):
        self.matcher, self.mapping = TermMatcher(list(mapping), plurals=True), mapping
        self.forms = {f.text: substitute(f.text, mapping, matcher=self.matcher).translated
                      for f in self.matcher.forms}
        self.flash = KeywordProcessor(case_sensitive=True)
        self.flash.add_keywords_with_clean_word_from_iter(self.forms.items())
        self.alternation, self.listed = map(expression, (self.forms, mapping))
        self.runs = {}  # first word -> how many pieces the longest form that begins with it has
        for f in self.forms:
            pieces = re.split(r"(\W)", f)
            self.runs[pieces[0]] = max(self.runs.get(pieces[0], 0), len(pieces))

    def ours(self, text): return substitute(text, self.mapping, matcher=self.matcher).translated
    def flashtext(self, text): return self.flash.replace_keywords(text)
    def expression(self, text): return self.alternation.sub(lambda m: self.forms[m[0]], text)
    def plain_expression(self, text): return self.listed.sub(lambda m: self.mapping[m[0]], text)

    def loop(self, text):
        pieces, out, i = re.split(r"(\W)", text), [], 0
        while i < len(pieces):
            for n in range(self.runs.get(pieces[i], 0), 0, -1):
                new = self.forms.get("".join(pieces[i:i+n]))
                if new is not None: break
            else: n, new = 1, pieces[i]
            out.append(new)
            i += n
        return "".join(out)


def seconds(work, text):
    start = time.perf_counter()
    work(text)
    return time.perf_counter()-start


def row(claim, ours, peer, unit, target, better="higher", digits=2):
    ratios = sorted(a/b for a, b in zip(ours, peer))
    return dict(claim=claim, ours=round(statistics.median(ours), digits),
                peer=round(statistics.median(peer), digits), unit=unit,
                ratio=round(statistics.median(ratios), 3),
                spread=round((ratios[-1]-ratios[0])/2, 3), target=target, better=better)


def rates(replace, text, size):
    "Megabytes a second of each side, repeat by repeat, in turn."
    sides = {"ours": (replace.ours, text), "flashtext2": (replace.flashtext, text),
             "a loop over words": (replace.loop, text[:MB])}
    slow = text[:MB//5 if size < 10_000 else MB//20]
    sides["one compiled expression"] = replace.expression, slow
    sides["one compiled expression of the terms as listed"] = replace.plain_expression, slow
    out = {side: [] for side in sides}
    for _ in range(REPEATS):
        for side, (work, part) in sides.items():
            out[side].append(len(part.encode())/MB/seconds(work, part))
    return out


def in_turn(*jobs):
    "Seconds of each job and its text, repeat by repeat."
    return list(zip(*([seconds(work, part) for work, part in jobs] for _ in range(REPEATS))))


text, demo = long_text(10*MB), Dictionary.load(data_path("harry_potter/dictionary.json")).draw(0)
names = made_up(SIZES[-1]-100, text, demo)
part = {t: demo[t] for t in random.Random(0).sample(sorted(demo), 100)}
def of_size(n, terms): return Replacers(terms | dict(list(names.items())[:n-len(terms)]))

rows, sizes = [], {n: of_size(n, part if n == 100 else demo) for n in SIZES}
for n, replace in sizes.items():
    found = rates(replace, text, n)
    for peer, target in PEERS.items():
        if "expression" in peer and n != 1_500: target = 1.
        rows.append(row(f"replacing {n:,} terms, against {peer}", found["ours"], found[peer],
                        "MB/s", target))

all_terms, few, same = sizes[1_500], sizes[100], of_size(10_000, part)
ours, flash = in_turn((all_terms.matcher.find, text),
                      (all_terms.flash.extract_keywords_with_span, text))
ours, flash = ([10/s for s in side] for side in (ours, flash))
rows.append(row("finding 1,500 terms and their places, against flashtext2", ours, flash, "MB/s",
                1.2))
ours, peer = in_turn((same.ours, text), (few.ours, text))
rows.append(row("10,000 terms against 100, as many found", ours, peer, "s", 1.3, "lower", 4))
more = len(sizes[10_000].matcher.find(text))/len(few.matcher.find(text))
ours, peer = in_turn((sizes[10_000].ours, text), (few.ours, text))
rows.append(row(f"10,000 terms against 100, {more:.1f} times as many found", ours, peer, "s", 1.3,
                "lower", 4))
parts = [text[i:i+MB] for i in range(0, len(text), MB)]
ours, peer = in_turn((all_terms.ours, text),
                     (lambda parts: [all_terms.ours(p) for p in parts], parts))
rows.append(row("1,500 terms: 10 MB at once against ten times 1 MB", ours, peer, "s", 1.1, "lower",
                4))
save("substitution", rows, "ahocorasick_rs", "flashtext2")
