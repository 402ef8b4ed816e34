"""How fast labels are made, and in how much memory: against the bare forward passes, and against
the plain algorithm.

The floor is what no label maker can do without: for each block the scores of the base model on the
translation and of the reinforced model on the original, in bfloat16, thrown away. The plain
algorithm is what one would first write from the paper: two whole models in float32, both sets of
scores in float32, the formula over the whole vocabulary. It runs in bfloat16 too, for what rounding
alone does to the labels. The reinforced model is the demo's, trained first. All read the same
512-token blocks of the demo corpus and take turns; ratios are of paired runs, and the median is
kept. Peak memory is measured in a process of its own for each side.

    python benchmarks/labels.py                               everything
    python benchmarks/labels.py --side NAME --blocks N --adapter FOLDER    one side's peak memory
"""
import argparse, json, re, statistics, subprocess, sys, tempfile, time
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset

from run import save
from selective_unlearning.core.files import data_path
from selective_unlearning.core.step_settings import LabelsConfig
from selective_unlearning.terms.dictionary import Dictionary
from selective_unlearning.labels.shards import write_labels
from selective_unlearning.labels.generic import iter_labels, pairs_of, suppressed
from selective_unlearning.models.adapters import adapter, load_adapter
from selective_unlearning.models.load import load_model, load_tokenizer
from selective_unlearning.job.run import demo_config, run
from selective_unlearning.corpus.blocks import make_blocks
from selective_unlearning.corpus.readers import read_corpus

HARD = LabelsConfig(kind="hard", alpha=5., space="logit")
SOFT = LabelsConfig(kind="soft", alpha=5., space="logit", top_k=64)
DEMO = LabelsConfig()
SWEEP = (0., .5, 1., 2., 5.)


def train_reinforced(folder):
    "The demo's reinforced adapter, in the folder `04-reinforced` of a run; returns that."
    return str(run(demo_config(), folder, until="reinforced").path("reinforced"))


def reinforced_model(folder, dtype):
    return load_adapter(load_model(dtype=dtype), "reinforced", folder)


class Data:
    def __init__(self, blocks):
        self.tok = load_tokenizer()
        self.terms = Dictionary.load(data_path("harry_potter/dictionary.json"))
        self.corpus = read_corpus(data_path("harry_potter/corpus"))
        self.blocks = make_blocks(self.corpus, self.tok, 512)
        def full(ids): return len(ids) > 400
        self.blocks = self.blocks.filter(full, input_columns="input_ids").select(range(blocks))
        self.pairs = list(pairs_of(self.corpus, self.blocks, self.terms, self.tok))


def ours(d, model, config, **kw):
    return [rows for rows in iter_labels(model, d.tok, d.corpus, d.blocks, d.terms, config, **kw)]


@torch.no_grad()
def floor(d, model):
    for p in d.pairs:
        with adapter(model, None): model(input_ids=torch.tensor([p.y]))
        with adapter(model, "reinforced"): model(input_ids=torch.tensor([p.x]))


@torch.no_grad()
def plain(d, base, reinforced):
    "Hard labels as one would first write them; returns those of each block."
    out = []
    for p in d.pairs:
        zb = base(torch.tensor([p.y])).logits[0].float()
        zr = reinforced(torch.tensor([p.x])).logits[0].float()
        mean = zb.mean(-1)
        for token, j in suppressed(p, d.tok).items(): zb[j+1:, token] = mean[j+1:]
        zb, zr = zb[p.index[p.at]], zr[p.at]
        labels = np.full(len(p.x), -100)
        labels[p.at+1] = (zb-5.*torch.relu(zr-zb)).argmax(-1)
        out.append(labels)
    return out


def plain_models(folder, dtype=torch.float32):
    return load_model(dtype=dtype), reinforced_model(folder, dtype).merge_and_unload()


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter()-start


def in_turn(repeats, **sides):
    "name → seconds of each repeat; each side warms up once."
    for work in sides.values(): work()
    seconds = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items(): seconds[name].append(timed(work))
    return seconds


def row(claim, seconds, a, b, tokens, target, unit="tok/s"):
    "Throughput of side `a` over that of side `b`."
    ratios = sorted(y/x for x, y in zip(seconds[a], seconds[b]))
    def rate(side): return round(tokens/statistics.median(seconds[side]), 1)
    return dict(claim=claim, ours=rate(a), peer=rate(b), unit=unit,
                ratio=round(statistics.median(ratios), 3),
                spread=round((ratios[-1]-ratios[0])/2, 3), target=target, better="higher")


def agreement(mine, theirs):
    pairs = [(a, b) for m, t in zip(mine, theirs) for a, b in zip(m[0]["labels"], t) if b >= 0]
    return sum(a == b for a, b in pairs)/len(pairs)


def peak(side, blocks, folder):
    "Peak memory of one side in a process of its own, in bytes."
    cmd = [sys.executable, __file__, "--side", side, "--blocks", str(blocks), "--adapter", folder]
    out = subprocess.run(cmd, capture_output=True, text=True, check=True).stdout
    return json.loads(out.splitlines()[-1])


def lengthened(d, times):
    "The demo corpus many times over, on disk, as a run keeps it: read a piece at a time."
    folder = tempfile.mkdtemp()
    texts, sources = d.corpus["text"][:3]*times, [str(i) for i in range(3*times)]
    Dataset.from_dict({"text": texts, "source": sources}).save_to_disk(f"{folder}/corpus")
    corpus = Dataset.load_from_disk(f"{folder}/corpus")
    make_blocks(corpus, d.tok, 512).save_to_disk(f"{folder}/blocks")
    return folder, corpus, Dataset.load_from_disk(f"{folder}/blocks")


def one_side(side, blocks, folder):
    "Run one side alone, in this process, then print its peak memory."
    if side.startswith("corpus"):
        from transformers import LlamaConfig, LlamaForCausalLM
        d = Data(1)
        tiny = LlamaForCausalLM(LlamaConfig(
            vocab_size=len(d.tok), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2)).eval()
        folder, corpus, blocks = lengthened(d, int(side.removeprefix("corpus")))
        write_labels(f"{folder}/labels", tiny, d.tok, corpus, blocks, d.terms, HARD, (tiny, None))
    elif side == "plain": plain(Data(blocks), *plain_models(folder))
    else: ours(Data(blocks), reinforced_model(folder, torch.bfloat16), HARD)
    status = Path("/proc/self/status").read_text()             # of this program, not of its parent
    print(int(re.search(r"VmHWM:\s*(\d+) kB", status)[1])*1024)


def main(blocks, repeats=7):
    folder = train_reinforced(tempfile.mkdtemp()+"/run")
    d, model = Data(blocks), reinforced_model(folder, torch.bfloat16)
    tokens = sum(len(p.x) for p in d.pairs)
    s = in_turn(repeats, floor=lambda: floor(d, model), hard=lambda: ours(d, model, HARD),
                soft=lambda: ours(d, model, SOFT), demo=lambda: ours(d, model, DEMO),
                sweep=lambda: ours(d, model, HARD, alphas=SWEEP))
    bare = "against the two bare forward passes"
    rows = [row(f"hard labels {bare}", s, "hard", "floor", tokens, .95),
            row(f"soft top-64 labels {bare}", s, "soft", "floor", tokens, .95),
            row(f"the demo's labels (soft, log-probabilities) {bare}", s, "demo", "floor", tokens,
                .95),
            row("soft top-64 labels against hard labels", s, "soft", "hard", tokens,
                round(1/1.1, 3)),
            row("a sweep of 5 alphas against one", s, "sweep", "hard", tokens, round(1/1.2, 3))]
    models = plain_models(folder)
    s = in_turn(3, hard=lambda: ours(d, model, HARD), plain=lambda: plain(d, *models))
    rows.append(row("hard labels in bfloat16 against the plain algorithm in float32", s, "hard",
                    "plain", tokens, 3.))
    want, rounded = plain(d, *models), plain(d, *plain_models(folder, torch.bfloat16))
    def share(mine, theirs): return round(agreement(mine, theirs), 4)
    bound = share([[dict(labels=r)] for r in rounded], want)   # what bfloat16 costs any label maker
    exact = reinforced_model(folder, torch.float32)
    for name, m, peer, target in (("bfloat16", model, bound, .995), ("float32", exact, 1., 1.)):
        mine = share(ours(d, m, HARD), want)
        claim = (f"labels in {name} that agree with the plain algorithm in float32, beside the "
                 f"plain algorithm in {name}")
        rows.append(dict(claim=claim, ours=mine, peer=peer, unit="share", ratio=mine, spread=0.,
                         target=target, better="higher"))
    for claim, a, b, n, target in (
        ("peak memory against the plain algorithm", "hard", "plain", 4, .55),
        ("peak memory on ten times the text", "corpus50", "corpus5", 1, 1.05),
    ):
        a, b = peak(a, n, folder), peak(b, n, folder)
        rows.append(dict(claim=claim, ours=round(a/2**20), peer=round(b/2**20), unit="MiB",
                         ratio=round(a/b, 3), spread=0.,
                         target=target, better="lower"))
    save("labels", rows)


if __name__ == "__main__":
    args = argparse.ArgumentParser(description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--side")
    args.add_argument("--blocks", type=int, default=6)
    args.add_argument("--adapter")
    a = args.parse_args()
    one_side(a.side, a.blocks, a.adapter) if a.side else main(a.blocks)
