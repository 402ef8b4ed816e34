"""How fast the two fine-tunings are, and in how much memory: against the bare passes, plain
`Trainer`, and trl's `SFTTrainer`.

The floor is what no trainer can do without: forward and backward of the same model on the same rows
in the same dtype, with the library's own loss and no optimiser. For reinforcing that is one block a
step, for unlearning one block and one row of retain text. All train the demo's adapter on the same
256-token blocks of the demo corpus and take turns; ratios are of paired runs, and the median is
kept. The dense soft loss is the plain one, in the same trainer: the label as a distribution over
the whole vocabulary, in float32. Peak memory is measured in a process of its own for each side,
less what the process holds before training. All trainers write one checkpoint, after the last of 16
steps.

    python benchmarks/training.py                          everything
    python benchmarks/training.py --side NAME              one side only, printing its peak memory
"""
import argparse, tempfile
from pathlib import Path
from statistics import median

import torch
from datasets import Dataset
from transformers import Trainer, TrainingArguments

from _kit import Demo, alone, in_turn, status
from _kit import throughput as row
from run import save
from selective_unlearning.models.reader import Reader
from selective_unlearning.core.files import data_path
from selective_unlearning.core.step_settings import AdapterConfig, FinetuneConfig, LabelsConfig
from selective_unlearning.training.rows import collate
from selective_unlearning.training.losses import batch_losses
from selective_unlearning.training.trainer import finetune
from selective_unlearning.labels.generic import iter_labels
from selective_unlearning.models.adapters import add_adapter
from selective_unlearning.models.load import load_model
from selective_unlearning.corpus.blocks import make_blocks
from selective_unlearning.corpus.readers import read_corpus
from selective_unlearning.training.retain_set import base_labels

STEPS, WIDTH = 16, 256
CONFIG = dict(epochs=1, lr=1e-5, save_steps=10**6)
HARD, SOFT = LabelsConfig(kind="hard"), LabelsConfig()


class Data(Demo):
    "A model with a fresh adapter, blocks, their hard and soft labels, and rows of retain text."
    def __init__(self):
        super().__init__(WIDTH, STEPS, WIDTH-30)
        c = AdapterConfig()
        self.model = add_adapter(load_model(dtype=torch.bfloat16), "a", c.r, c.alpha, c.targets,
                                 c.first_layer, 0)
        base, other = Reader(self.model, self.tok), Reader(self.model, self.tok, "a")
        def labels(config):
            made = iter_labels(base, other, self.translated, config)
            return Dataset.from_list([row for row, in made])
        self.hard, self.soft = labels(HARD), labels(SOFT)
        texts = read_corpus(data_path("holdout"))
        retain = make_blocks(texts, self.tok, WIDTH)["input_ids"][:STEPS]
        self.retain = base_labels(base, retain, SOFT.top_k)
        self.model.set_adapter("a")

    def batches(self, *sets):
        "One row of each set a step, as the trainer pads them."
        return [collate([s[i] for s in sets], self.tok.pad_token_id, WIDTH) for i in range(STEPS)]


def bare(d, *sets):
    d.model.train()
    for b in d.batches(*sets):
        labels = b["input_ids"].where(b["attention_mask"] > 0, -100)
        d.model(input_ids=b["input_ids"], attention_mask=b["attention_mask"],
                labels=labels).loss.backward()
        d.model.zero_grad()


def ours(d, rows, retain=None, losses=batch_losses, **config):
    config = FinetuneConfig(**CONFIG, **config)
    with tempfile.TemporaryDirectory() as out:
        finetune(d.model, d.tok, rows, config, retain, out, losses=losses)


def arguments(cls, out, **kw):
    "The settings of `finetune`."
    return cls(out, num_train_epochs=1, learning_rate=CONFIG["lr"], per_device_train_batch_size=1,
               lr_scheduler_type="linear", weight_decay=0., save_steps=CONFIG["save_steps"],
               report_to="none", use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False,
               logging_steps=100, **kw)


def plain_trainer(d):
    rows = Dataset.from_list([dict(input_ids=r, labels=r, attention_mask=[1]*len(r))
                              for r in d.blocks["input_ids"]])
    with tempfile.TemporaryDirectory() as out:
        Trainer(d.model, arguments(TrainingArguments, out), train_dataset=rows).train()


def sft_trainer(d):
    from trl import SFTConfig, SFTTrainer
    rows = Dataset.from_dict({"input_ids": d.blocks["input_ids"]})
    with tempfile.TemporaryDirectory() as out:
        args = arguments(SFTConfig, out, max_length=WIDTH, gradient_checkpointing=False, bf16=False)
        SFTTrainer(d.model, args, train_dataset=rows, processing_class=d.tok).train()


def dense(model, batch, config):
    "The losses as one would first write them: a distribution over the vocabulary everywhere."
    inputs = {k: batch[k] for k in ("input_ids", "attention_mask")}
    logits = model(**inputs).logits.float()[:, :-1]
    ids, logp = batch["topk_ids"][:, 1:], batch["topk_logprobs"][:, 1:]
    target = torch.zeros_like(logits).scatter_add_(-1, ids.clamp(min=0), logp.exp()*(ids >= 0))
    loss = torch.nn.functional.kl_div(logits.log_softmax(-1), target, reduction="none").sum(-1)
    labelled, retain = ids[..., 0] >= 0, batch["retain"][:, None]
    forget, kept = labelled & ~retain, labelled & retain
    return dict(forget=loss[forget].sum(), retain=loss[kept].sum(), n_forget=forget.sum(),
                n_retain=kept.sum())


def one_side(side):
    d = Data()
    before = status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")          # the peak counts from here
    ours(d, d.soft, d.retain, dense if side == "dense" else batch_losses)
    print(status("VmHWM")-before)


def peak(side): return alone(__file__, "--side", side)


def main(repeats=3):
    d = Data()
    one, two = (sum(sum(map(len, s["input_ids"])) for s in sets)
                for sets in ((d.blocks,), (d.blocks, d.retain)))
    s = in_turn(repeats, floor=lambda: bare(d, d.blocks),
                reinforce=lambda: ours(d, d.blocks, hinge_weight=0.),
                trainer=lambda: plain_trainer(d), sft=lambda: sft_trainer(d))
    rows = [row("reinforce steps against bare forward and backward", s, "reinforce", "floor", one,
                .95),
            row("reinforce steps against plain Trainer", s, "reinforce", "trainer", one, 1.),
            row("reinforce steps against trl's SFTTrainer", s, "reinforce", "sft", one, 1.)]
    s = in_turn(repeats, floor=lambda: bare(d, d.blocks, d.retain),
                soft=lambda: ours(d, d.soft, d.retain),
                hard=lambda: ours(d, d.hard, d.retain))
    rows += [row("unlearn steps (soft labels, hinge, retain text) against bare forward and "
                 "backward", s, "soft", "floor", two, .95),
             row("unlearn steps with soft labels against hard", s, "soft", "hard", two,
                 round(1/1.1, 3))]
    a, b = zip(*((peak("soft"), peak("dense")) for _ in range(repeats)))
    ratios = sorted(x/y for x,y in zip(a, b))
    claim = "peak memory of unlearn steps, beyond the model's own, against the dense soft loss"
    rows.append(dict(claim=claim, unit="MiB", ours=round(median(a)/2**20),
                     peer=round(median(b)/2**20), ratio=round(median(ratios), 3),
                     spread=round((ratios[-1]-ratios[0])/2, 3), target=.6, better="lower"))
    save("training", rows, "trl")


if __name__ == "__main__":
    args = argparse.ArgumentParser(description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--side")
    a = args.parse_args()
    one_side(a.side) if a.side else main()
