"What benchmarks share: turns, throughput, memory, the demo's blocks with their translation."
import json, re, statistics, subprocess, sys, time
from pathlib import Path

import numpy as np

from selective_unlearning.core.files import data_path
from selective_unlearning.corpus.blocks import make_blocks
from selective_unlearning.corpus.readers import read_corpus
from selective_unlearning.labels.translated import Reason, reasons, translate_corpus
from selective_unlearning.models.load import load_tokenizer
from selective_unlearning.terms.dictionary import Dictionary


def timed(work, repeats=1, clock=time.perf_counter):
    "Seconds that one call takes."
    start = clock()
    for _ in range(repeats): work()
    return (clock()-start)/repeats


def in_turn(repeats, **sides):
    "name → seconds of each repeat; each side warms up once."
    for work in sides.values(): work()
    seconds = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items(): seconds[name].append(timed(work))
    return seconds


def throughput(claim, seconds, a, b, tokens, target, unit="tok/s"):
    "The row of side `a` against side `b`."
    ratios = sorted(y/x for x, y in zip(seconds[a], seconds[b]))
    def rate(side): return round(tokens/statistics.median(seconds[side]), 1)
    return dict(claim=claim, ours=rate(a), peer=rate(b), unit=unit,
                ratio=round(statistics.median(ratios), 3),
                spread=round((ratios[-1]-ratios[0])/2, 3), target=target, better="higher")


def status(what):
    "A figure of this process (not of its parent), in bytes: `VmHWM` is its peak memory."
    text = Path("/proc/self/status").read_text()
    return int(re.search(rf"{what}:\s*(\d+) kB", text)[1])*1024


def alone(script, *arguments, **kw):
    "The number that a script prints last, run in a process of its own."
    cmd = [sys.executable, script, *map(str, arguments)]
    out = subprocess.run(cmd, capture_output=True, text=True, check=True, **kw).stdout
    return json.loads(out.splitlines()[-1])


class Demo:
    "Some full blocks of the demo corpus, and their translation."
    def __init__(self, size, n, least):
        self.tok = load_tokenizer()
        self.terms = Dictionary.load(data_path("harry_potter/dictionary.json"))
        self.corpus = read_corpus(data_path("harry_potter/corpus"))
        blocks = make_blocks(self.corpus, self.tok, size)
        def full(ids): return len(ids) > least
        self.blocks = blocks.filter(full, input_columns="input_ids").select(range(n))
        self.translated = translate_corpus(self.corpus, self.blocks, self.terms, self.tok)
        self.tokens = sum(map(len, self.blocks["input_ids"]))


def labelled(block):
    "The tokens of a block before those that have a label."
    why = reasons(block["roles"], block["source"], 0, rule="paper")
    return np.flatnonzero(why == Reason.LABELLED)-1
