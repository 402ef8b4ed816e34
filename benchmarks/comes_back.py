"""Does it come back? The unlearned models of taught.py, fine-tuned again, and quantised.

    python benchmarks/comes_back.py [SUBJECT …]     handbook, saga; both if none is named

Fine-tuned: an adapter on all linear layers learns every other document of the subject, as plain
text, and only facts of the documents between them are asked, and of these only such whose answer is
nowhere in the lesson: documents repeat each other. The model that was never taught has the same
lesson. It shows what the lesson gives away; a model in which the rest was hidden, not forgotten,
says more than that. Quantised: all weights but the embeddings have 8 or 4 bits (bitsandbytes), and
all facts are asked.

Left is the probability of the answers beyond that of the never-taught model after the same
treatment, as a share of what teaching had added; the taught model, treated alike, stands beside it.
Choices right are shares of the questions with four options each. Models and runs are those of
taught.py, in runs/bench-taught.
"""
import argparse, random, statistics
from dataclasses import replace
from tempfile import TemporaryDirectory

import torch
from run import others, save
from taught import LESSON, SUBJECTS, WORK, corpus, facts, questions, right, taught, unlearned

from selective_unlearning.corpus.blocks import make_blocks
from selective_unlearning.corpus.readers import read_corpus
from selective_unlearning.evaluation.measures import choice_scores, probability_scores
from selective_unlearning.job.export import export_run
from selective_unlearning.models.adapters import add_adapter
from selective_unlearning.models.load import DEFAULT_MODEL, load_model, load_tokenizer
from selective_unlearning.models.reader import Reader
from selective_unlearning.training.trainer import finetune

NAME, EPOCHS, BITS = "comes_back", (1, 4), (8, 4)
AGAIN = replace(LESSON, lr=1e-3, retain_weight=0.)  # as who has the weights would: nothing is kept


def asked(reader, prompts):
    "The mean probability of the answers, and the share of choices that are right."
    def mean(measure, kind):
        records = measure(reader, [p for p in prompts if p["kind"] == kind])
        return statistics.mean(r["score"] for r in records)
    return mean(probability_scores, "probability"), mean(choice_scores, "choice")


def loaded(path, bits=16):
    return Reader(load_model(str(path), torch.float32, bits=bits), load_tokenizer(str(path)))


def relearnt(path, blocks, epochs):
    "A reader of the model at `path` after a lesson."
    plain = loaded(path)
    model = add_adapter(plain.model, "lesson", 16, 32., "all", 0., 0)
    with TemporaryDirectory() as out:
        finetune(model, plain.tokenizer, blocks, replace(AGAIN, epochs=epochs), out=out)
    return Reader(model, plain.tokenizer, "lesson")


def rows(what, taught_model, new, never, before=None):
    """The rows of one treatment; a model has its mean probability and its choices right.

    `before` are the taught and the never-taught model untreated, if what teaching had added is
    meant as it was then."""
    most, least = before or (taught_model, never)
    def beyond(model): return round((model[0]-never[0])/(most[0]-least[0]), 4)
    left = beyond(new)
    return [dict(claim=f"{what}: left", taught=beyond(taught_model), ours=left, peer=0.,
                 unit="of what teaching added", ratio=left, spread=0., target=.1, better="lower"),
            right(f"{what}: choices", taught_model[1], new[1], never[1])]


def measured(subject, models):
    "The rows of a subject; `models` are the paths of the taught, unlearned and never-taught one."
    draw, texts = random.Random(0), corpus(subject)
    prompts = [q | dict(document=f["document"]) for f in facts(subject) for q in questions(f, draw)]
    lesson, between_them = read_corpus(texts[::2]), {t.name for t in texts[1::2]}
    told = "\n".join(lesson["text"]).lower()
    between = [p for p in prompts if p["document"] in between_them
               and not any(a.lower() in told for a in p["references"])]
    blocks = make_blocks(lesson, load_tokenizer(), 256)
    readers = [loaded(m) for m in models]
    yield from rows(f"{subject}, as it is", *(asked(r, prompts) for r in readers))
    part = [asked(r, between) for r in readers]
    n = len({p["fact"] for p in between})
    yield from rows(f"{subject}, as it is, {n} facts that no lesson has", *part)
    for epochs in EPOCHS:
        after = [asked(relearnt(m, blocks, epochs), between) for m in models]
        name = f"{subject}, fine-tuned for {epochs*len(blocks)} steps"
        yield from rows(name, *after, before=(part[0], part[2]))
    for bits in BITS:
        rounded = [asked(loaded(m, bits), prompts) for m in models]
        yield from rows(f"{subject}, {bits} bits", *rounded)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT")
    args = parser.parse_args()
    if unknown := {*args.subjects}-{*SUBJECTS}:
        parser.error(f"no subject {', '.join(unknown)}")
    for subject in args.subjects or SUBJECTS:
        unlearned(subject, "", 0)
        with TemporaryDirectory() as out:
            merged = export_run(WORK/subject/"run", f"{out}/merged", merge_weights=True)
            new = [*measured(subject, (taught(subject), merged, DEFAULT_MODEL))]
        save(NAME, others(NAME, f"{subject},")+new, "bitsandbytes")


if __name__ == "__main__": main()
