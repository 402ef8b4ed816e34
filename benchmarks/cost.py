"""Whether the cost model's predictions hold on this machine: label making at three model sizes made
by configuration.

The models have random weights, in bfloat16, and an adapter as the demo's. The machine's speeds are
measured beside each run by plain operations of the same shapes, none of them label making: matrix
products of a layer and of the vocabulary in bfloat16, the adapter's thin products in float32, an
elementwise sum for the memory, and what starting a layer's operations takes, on a model with
nothing to compute. A row's ours is the prediction from those speeds, its peer the measurement, its
ratio the one over the other. A second prediction takes the time of attention and of the choice of
the best scores from PyTorch's kernels, run alone: what it adds is what those two lose against the
speed of plain operations.

Runs take turns, ratios are of paired runs, and the median is kept. All run on one core, and time is
the processor's own, which other programs on the machine hardly change. Peak memory is measured in a
process of its own for each size, and is what the process grows by after its imports, tokenizer and
corpus.

    python benchmarks/cost.py                 everything
    python benchmarks/cost.py --peak SIZE     one size only, printing what memory grows by
"""
import argparse, os, statistics, tempfile, time
from dataclasses import replace
from functools import partial

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from _cost_model import Device, adapter_shapes, block_work, layer_shapes, parameter_count
from _cost_model import part_seconds, peak_memory
from _kit import Demo, alone, labelled, status
from _kit import timed as wall_clock
from run import save
from selective_unlearning.job.settings import RunConfig
from selective_unlearning.labels.shards import label_bytes, write_labels
from selective_unlearning.labels.generic import iter_labels
from selective_unlearning.models.adapters import add_adapter
from selective_unlearning.models.reader import Reader
from selective_unlearning.models.scores import row_scores

RUN = RunConfig()
SIZES = {"25M": (256, 1024, 12, 4, 2), "135M": (576, 1536, 30, 9, 3),
         "360M": (960, 2560, 32, 15, 5)}
IDLE = (16, 16, 24, 1, 1)                        # nothing to compute: what is left is starting it


def shape(size, V):
    h, i, layers, heads, kv = size
    return LlamaConfig(vocab_size=V, hidden_size=h, intermediate_size=i, num_hidden_layers=layers,
                       num_attention_heads=heads, num_key_value_heads=kv,
                       tie_word_embeddings=True, max_position_embeddings=2048)


def random_model(config):
    model, f = LlamaForCausalLM._from_config(config, dtype=torch.bfloat16).eval(), RUN.lora
    return add_adapter(model, "reinforced", f.r, f.alpha, f.targets, f.first_layer)


class Data(Demo):
    def __init__(self, blocks=2):
        super().__init__(RUN.block_size, blocks, RUN.block_size-16)
        self.labelled = sum(len(labelled(b)) for b in self.translated)/self.tokens
        self.run = replace(RUN, block_size=round(self.tokens/blocks))

    def readers(self, model): return Reader(model, self.tok), Reader(model, self.tok, "reinforced")


timed = partial(wall_clock, clock=time.process_time)


def make(d, model):
    for _ in iter_labels(*d.readers(model), d.translated, RUN.labels): pass


class Products:
    "Products of given shapes, each with its own weights: one layer's would stay in the cache."
    def __init__(self, shapes, dtype, T):
        self.pairs = [(torch.randn(T, a, dtype=dtype), torch.randn(b, a, dtype=dtype))
                      for a, b in shapes]
        self.flops = sum(2*T*a*b for a, b in shapes)

    def __call__(self):
        for x, w in self.pairs: torch.nn.functional.linear(x, w)

    def speed(self, repeats=1): return self.flops/timed(self, repeats)


class Speeds:
    "What this machine does with the shapes of one model, measured anew each time."
    def __init__(self, c, run, labelled):
        T, r, d = run.block_size, run.lora.r, c.head_dim
        self.layers, V = c.num_hidden_layers, c.vocab_size
        thick = [*layer_shapes(c).values()]*8+[(c.hidden_size, V)]
        thin = [s for a, b in adapter_shapes(c, run.lora)[:6] for s in ((a, r), (r, b))]
        self.bf16 = Products(thick, torch.bfloat16, T)
        self.f32 = Products(thin, torch.float32, T)
        self.wide, self.other = torch.randn(2, T, c.intermediate_size).bfloat16()
        self.q, self.k = (torch.randn(1, n, T, d).bfloat16()
                          for n in (c.num_attention_heads, c.num_key_value_heads))
        self.scores = torch.randn(round(labelled*T), V).bfloat16()
        self.pool = 64+3*run.labels.top_k
        self.device(), self.kernels()

    def device(self):
        seconds = timed(lambda: torch.add(self.wide, self.other), 50)
        bandwidth = 3*self.wide.nbytes/seconds
        return Device("this machine", self.bf16.speed(), self.f32.speed(5), bandwidth, float("inf"))

    def kernels(self):
        def attend():
            torch.nn.functional.scaled_dot_product_attention(self.q, self.k, self.k,
                                                             is_causal=True, enable_gqa=True)
        attention = timed(attend, 10)
        return 2*self.layers*attention, timed(lambda: self.scores.topk(self.pool))


def grown(size):
    d = Data()
    make(d, random_model(shape(IDLE, len(d.tok))))           # what is loaded on first use
    before = status("VmRSS")
    make(d, random_model(shape(SIZES[size], len(d.tok))))
    return status("VmHWM")-before


def peak(size):
    env = os.environ | {"MALLOC_MMAP_THRESHOLD_": "1000000"}         # what is freed is given back
    return alone(__file__, "--peak", size, env=env)


def row(claim, unit, ours, peer, target=1.25):
    "Prediction beside measurement, of the same rounds."
    ratios = [a/b for a, b in zip(ours, peer)]
    def middle(v): return round(statistics.median(v), 3)
    return dict(claim=claim, ours=middle(ours), peer=middle(peer), unit=unit, ratio=middle(ratios),
                spread=round((max(ratios)-min(ratios))/2, 3), target=target, better="near 1")


def starting(idle):
    "Seconds that starting a layer's operations takes, mean of both models."
    def ask(name): return timed(lambda: row_scores(Reader(idle, adapter=name), [0]*16, [0]), 3)
    return (ask(None)+ask("reinforced"))/2/IDLE[2]


def main(rounds=5):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    d = Data()
    configs = {n: shape(s, len(d.tok)) for n, s in SIZES.items()}
    models = {n: random_model(c) for n, c in configs.items()}
    speeds = {n: Speeds(c, d.run, d.labelled) for n, c in configs.items()}
    idle = random_model(shape(IDLE, len(d.tok)))
    for m in (idle, *models.values()): make(d, m)
    found = {n: [] for n in SIZES}
    for _ in range(rounds):
        for n, c in configs.items():
            device, launch = speeds[n].device(), starting(idle)
            attention, best = speeds[n].kernels()
            parts = part_seconds(block_work(c, d.run, d.labelled), device, 1.)
            # one core starts and computes: they add up
            plain = sum(parts.values())+2*c.num_hidden_layers*launch
            kernels = plain-parts["attention"]+attention+best
            ms = 1e3/d.run.block_size
            measured = timed(partial(make, d, models[n]))*1e3/d.tokens
            found[n].append(dict(plain=plain*ms, kernels=kernels*ms, device=device, launch=launch,
                                 measured=measured))
    whats = dict(plain="from plain operations", kernels="with two kernels at their own speed")
    rows = [row(f"{n}: time, {what}", "ms a token", [f[key] for f in found[n]],
                [f["measured"] for f in found[n]])
            for key, what in whats.items() for n in SIZES]
    for n, c in configs.items():
        predicted = sum(peak_memory(c, d.run, d.labelled).values())
        rows.append(row(f"{n}: peak memory", "MiB", [predicted/2**20], [peak(n)/2**20]))
    folder = write_labels(tempfile.mkdtemp()+"/labels", *d.readers(idle), d.translated, RUN.labels)
    size = sum(p.stat().st_size for p in folder.glob("*.arrow"))/d.tokens
    rows.append(row("label files", "bytes a token", [label_bytes(RUN.labels)], [size], 1.05))
    def of(what): return {n: round(statistics.median(map(what, found[n])), 3) for n in SIZES}
    save("cost", rows, bfloat16_gflops=of(lambda f: f["device"].flops/1e9),
         float32_gflops=of(lambda f: f["device"].float32/1e9),
         moved_gb_a_second=of(lambda f: f["device"].bandwidth/1e9),
         launch_ms_a_layer=of(lambda f: f["launch"]*1e3),
         weights={n: parameter_count(c) for n, c in configs.items()},
         tokens=d.tokens, labelled=round(d.labelled, 3))


if __name__ == "__main__":
    args = argparse.ArgumentParser(description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--peak", choices=SIZES)
    a = args.parse_args()
    print(grown(a.peak)) if a.peak else main()
