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
import argparse, tempfile

import numpy as np
import torch
from datasets import Dataset

from _kit import Demo, alone, in_turn, labelled, status
from _kit import throughput as row
from run import save
from selective_unlearning.core.step_settings import LabelsConfig
from selective_unlearning.corpus.blocks import make_blocks
from selective_unlearning.job.run import demo_config, run
from selective_unlearning.labels.generic import iter_labels
from selective_unlearning.labels.shards import write_labels
from selective_unlearning.labels.translated import TRANSLATED, iter_translated
from selective_unlearning.models.adapters import load_adapter
from selective_unlearning.models.load import load_model
from selective_unlearning.models.reader import Reader

HARD = LabelsConfig(rule="paper", kind="hard", alpha=5.)
SOFT = LabelsConfig(rule="paper", alpha=5., top_k=64)
DEMO = LabelsConfig()
SWEEP = (0., .5, 1., 2., 5.)


def train_reinforced(folder):
    "The demo's reinforced adapter, in the folder `04-reinforced` of a run; returns that."
    return str(run(demo_config(), folder, until="reinforced").path("reinforced"))


def reinforced_model(folder, dtype):
    return load_adapter(load_model(dtype=dtype), "reinforced", folder)


def demo(blocks): return Demo(512, blocks, 400)


def ours(d, model, config, **kw):
    readers = Reader(model, d.tok), Reader(model, d.tok, "reinforced")
    return list(iter_labels(*readers, d.translated, config, **kw))


@torch.no_grad()
def floor(d, model):
    base, reinforced = Reader(model), Reader(model, adapter="reinforced")
    for b in d.translated:
        with base.on(): model(input_ids=torch.tensor([b["translated_ids"]]))
        with reinforced.on(): model(input_ids=torch.tensor([b["input_ids"]]))


@torch.no_grad()
def plain(d, base, reinforced):
    "Hard labels as one would first write them; returns those of each block."
    out = []
    for b in d.translated:
        zb = base(torch.tensor([b["translated_ids"]])).logits[0].float()
        zr = reinforced(torch.tensor([b["input_ids"]])).logits[0].float()
        mean, at = zb.mean(-1), labelled(b)
        for token, j in zip(b["quiet_ids"], b["quiet_after"]): zb[j+1:, token] = mean[j+1:]
        zb, zr = zb[np.array(b["source"])[at+1]], zr[at]
        labels = np.full(len(b["input_ids"]), -100)
        labels[at+1] = (zb-5.*torch.relu(zr-zb)).argmax(-1)
        out.append(labels)
    return out


def plain_models(folder, dtype=torch.float32):
    return load_model(dtype=dtype), reinforced_model(folder, dtype).merge_and_unload()


def agreement(mine, theirs):
    pairs = [(a, b) for m, t in zip(mine, theirs) for a, b in zip(m[0]["labels"], t) if b >= 0]
    return sum(a == b for a, b in pairs)/len(pairs)


def peak(side, blocks, folder):
    "Peak memory of one side in a process of its own, in bytes."
    return alone(__file__, "--side", side, "--blocks", blocks, "--adapter", folder)


def lengthened(d, times):
    "The demo corpus many times over, translated and on disk, as a run keeps it."
    folder = tempfile.mkdtemp()
    texts, sources = d.corpus["text"][:3]*times, [str(i) for i in range(3*times)]
    corpus = Dataset.from_dict({"text": texts, "source": sources})
    blocks = make_blocks(corpus, d.tok, 512)
    rows = list(iter_translated(corpus, blocks, d.terms, d.tok))
    Dataset.from_list(rows, TRANSLATED).save_to_disk(f"{folder}/translated")
    return folder, Dataset.load_from_disk(f"{folder}/translated")


def one_side(side, blocks, folder):
    "Run one side alone, in this process, then print its peak memory."
    if side.startswith("corpus"):
        from transformers import LlamaConfig, LlamaForCausalLM
        d = demo(1)
        tiny = LlamaForCausalLM(LlamaConfig(
            vocab_size=len(d.tok), hidden_size=16, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2)).eval()
        folder, translated = lengthened(d, int(side.removeprefix("corpus")))
        reader = Reader(tiny, d.tok)
        write_labels(f"{folder}/labels", reader, reader, translated, HARD)
    elif side == "plain": plain(demo(blocks), *plain_models(folder))
    else: ours(demo(blocks), reinforced_model(folder, torch.bfloat16), HARD)
    print(status("VmHWM"))


def main(blocks, repeats=7):
    folder = train_reinforced(tempfile.mkdtemp()+"/run")
    d, model = demo(blocks), reinforced_model(folder, torch.bfloat16)
    tokens = d.tokens
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
