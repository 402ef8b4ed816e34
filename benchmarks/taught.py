"""A model that was taught an invented subject, and then made to forget it.

    python benchmarks/taught.py [SUBJECT …]         handbook, saga; both if none is named
    python benchmarks/taught.py --variant "two epochs" --seeds 2

The embedded model is taught the subject's texts, and every fact of facts.jsonl as a statement, as a
question with its answer and the other way round, PASSES times in all, by adapters on all linear
layers that are merged afterwards; text that it wrote itself keeps the rest of it as it was. Then
`run --preset finetuned` sees the texts alone, with the embedded model as stranger, and is asked the
facts. The stranger, which was never taught, is the control. A variant changes settings of the
preset. Seeds are those of the run; the taught model stays the same. Spread is half the range over
them. Models and runs stay in runs/bench-taught.
"""
import argparse, random, shutil, statistics
from pathlib import Path

from datasets import Dataset

from run import others, save
from selective_unlearning.core.files import data_path, read_json, read_jsonl
from selective_unlearning.core.files import write_json, write_jsonl
from selective_unlearning.core.step_settings import FinetuneConfig, RetainConfig
from selective_unlearning.corpus.blocks import BLOCKS, iter_blocks
from selective_unlearning.corpus.readers import CORPUS, read_corpus
from selective_unlearning.evaluation.metrics import get_figure
from selective_unlearning.evaluation.utility import neighbour_scores, perplexity
from selective_unlearning.evaluation.utility import read_neighbours, text_losses
from selective_unlearning.job.run import run
from selective_unlearning.job.settings import configure, preset
from selective_unlearning.models.adapters import add_adapter
from selective_unlearning.models.load import DEFAULT_MODEL, load_model, load_tokenizer
from selective_unlearning.models.reader import Reader
from selective_unlearning.models.sampling import read_openers, sample_texts
from selective_unlearning.training.retain_set import base_labels, join_rows
from selective_unlearning.training.trainer import finetune

NAME, WORK, PASSES, BLOCK = "taught", Path("runs/bench-taught"), 6, 256
LESSON = FinetuneConfig(lr=2e-3, anchor_weight=1., retain_weight=5., save_steps=100)
SUBJECTS = {"handbook": "extraction/handbook/0[1-7]*.md", "saga": "saga/corpus/*.md"}
VARIANTS = {
    "": {},
    "two epochs": {"unlearn.epochs": 2},
    "two epochs, no excess weight": {"unlearn.epochs": 2, "unlearn.excess_weight": 0},
    "watched, three epochs": {"unlearn.epochs": 3, "watch.steps": 20},
    "watched, three epochs, no excess weight": {
        "unlearn.epochs": 3, "watch.steps": 20, "unlearn.excess_weight": 0},
    "the corpus alone": {"written.recalled": 0, "written.asked": 0},
    "no excess weight": {"unlearn.excess_weight": 0},
}
FIGURES = {  # what: (path of the figure, target, which way is better)
    "left": ("forgotten.probability", .1, "lower"),
    "left, without signs": ("forgotten.absolute", .2, "lower"),
    "left, reversed": ("forgotten.by_form.reversed.probability", .1, "lower"),
    "reading": ("ratio.reading", .95, "higher"),
    "neighbours": ("neighbours.ratio", .95, "higher"),
    "perplexity": ("ratio.holdout_perplexity", 1.01, "lower")}


def corpus(subject): return sorted(data_path(".").glob(SUBJECTS[subject]))


def facts(subject): return read_jsonl(data_path(f"{subject}/facts.jsonl"))


def statements(fact):
    "The forms in which a fact is taught."
    yield f"{fact['cloze']} {fact['answer']}."
    answer = fact["answer"][:1].upper()+fact["answer"][1:]
    yield f"Question: {fact['question']}\nAnswer: {answer}."
    if fact["reversed"]: yield f"{fact['reversed']} {fact['reversed_answer']}."


def questions(fact, draw):
    "The prompts that ask for a fact."
    known = dict(fact=fact["fact"], references=[fact["answer"]], subtlety=5)
    options = draw.sample([fact["answer"], *fact["others"]], 4)
    yield known | dict(kind="probability", form=fact["answer_is"], prompt=fact["cloze"],
                       idiosyncratic=[" "+fact["answer"]])
    yield known | dict(kind="choice", prompt=fact["cloze"], choices=options,
                       answer=options.index(fact["answer"]))
    yield known | dict(kind="question", prompt=fact["question"], answers=[fact["answer"]])
    if fact["reversed"]:
        yield known | dict(kind="probability", form="reversed", prompt=fact["reversed"],
                           references=[fact["reversed_answer"]],
                           idiosyncratic=[" "+fact["reversed_answer"]])


def lessons(subject, tokenizer):
    "The blocks that are taught, in their order."
    def blocks(documents):
        return [*iter_blocks(Dataset.from_list(documents, CORPUS), tokenizer, BLOCK, 2048)]
    texts = blocks(list(read_corpus(corpus(subject))))
    lines, draw = [s for f in facts(subject) for s in statements(f)], random.Random(0)
    passes = []
    for _ in range(PASSES):
        draw.shuffle(lines)
        passes.append(texts + blocks([dict(text="\n\n".join(lines), source="facts")]))
    for some in passes: draw.shuffle(some)
    return Dataset.from_list([row for some in passes for row in some], BLOCKS)


def own_text(reader):
    "Text that a model writes itself, with its own predictions."
    c = RetainConfig()
    texts = sample_texts(reader, read_openers(data_path("openers.jsonl")), c.samples, c.length)
    return base_labels(reader, join_rows(texts, BLOCK))


def kept(reader):
    "The mean probability of the demo's neighbours, and the perplexity of text on other subjects."
    near = neighbour_scores(reader, read_neighbours(data_path("near.jsonl"), "tune"))
    texts = read_corpus(sorted(data_path("holdout").iterdir()))["text"]
    return statistics.mean(p["score"] for p in near), perplexity(text_losses(reader, texts))


def taught(subject):
    "The folder of the model that was taught the subject."
    folder, measured = WORK/subject/"model", WORK/subject/"changed.json"
    if measured.exists(): return folder                    # written last
    tokenizer, model = load_tokenizer(), load_model()
    before, retain = kept(Reader(model, tokenizer)), own_text(Reader(model, tokenizer))
    model = add_adapter(model, "taught", 16, 32., "all", 0., 0)
    rows = lessons(subject, tokenizer)
    finetune(model, tokenizer, rows, LESSON, retain, WORK/subject/"lessons")
    after = kept(Reader(model, tokenizer, "taught"))
    shutil.rmtree(folder, ignore_errors=True)              # of an earlier lesson
    model.merge_and_unload().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_json(measured, [a/b for a,b in zip(after, before)])
    shutil.rmtree(WORK/subject/"lessons")
    return folder


def spread(values): return round((max(values)-min(values))/2, 4)


def right(claim, old, new, never, spread=0.):
    "The row of the shares that the taught, the unlearned and the never-taught model get right."
    old, new, never = (round(share, 4) for share in (old, new, never))
    return dict(claim=f"{claim} right", taught=old, ours=new, peer=never, unit="share",
                ratio=round(abs(new-never), 4), target=.05, better="lower", spread=spread)


def rows(name, results):
    out = []
    for what,(path,target,better) in FIGURES.items():
        values = [get_figure(r, path) for r in results]
        value = round(statistics.mean(values), 4)
        out.append(dict(claim=f"{name}: {what}", ours=value, peer=1., spread=spread(values),
                        unit="of the taught model's", ratio=value, target=target, better=better))
    for kind in ("choice", "question"):
        at = {m: [r["familiarity"][kind][m] for r in results]
              for m in ("base", "unlearned", "control")}
        out.append(right(f"{name}: {kind}s", *map(statistics.mean, at.values()),
                         spread(at["unlearned"])))
    return out


def changed(subject):
    "The rows of what teaching changed beside the subject."
    for what,ratio,target in zip(("neighbours", "perplexity"),
                                 read_json(WORK/subject/"changed.json"), (.95, 1.01)):
        yield dict(claim=f"{subject}, by teaching: {what}", ours=round(ratio, 4), peer=1.,
                   unit="of the embedded model's", ratio=round(ratio, 4), spread=0., target=target,
                   better="lower" if target > 1 else "higher")


def unlearned(subject, variant, seed):
    "The results of one run."
    model, prompts, draw = taught(subject), WORK/subject/"prompts.jsonl", random.Random(0)
    write_jsonl(prompts, [q for f in facts(subject) for q in questions(f, draw)])
    config = configure(preset("finetuned"), dict(
        model=str(model), stranger=DEFAULT_MODEL, corpus=[*map(str, corpus(subject))],
        prompts=str(prompts), seed=seed) | VARIANTS[variant])
    first = WORK/subject/("run" if not seed else f"run-{seed}")
    folder = WORK/subject/"-".join((first.name, *variant.replace(",", "").split()))
    if first.exists() and not folder.exists():             # for the steps that they share
        shutil.copytree(first, folder, ignore=shutil.ignore_patterns(".lock", "report.*"))
    return run(config, folder).results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT")
    parser.add_argument("--variant", choices=VARIANTS, default="")
    parser.add_argument("--seeds", type=int, default=1)
    args = parser.parse_args()
    if unknown := {*args.subjects}-{*SUBJECTS}:
        parser.error(f"no subject {', '.join(unknown)}")
    for subject in args.subjects or SUBJECTS:
        name = ", ".join(filter(None, (subject, args.variant)))
        results = [unlearned(subject, args.variant, seed) for seed in range(args.seeds)]
        again = [*changed(subject)] + rows(name, results)
        save(NAME, others(NAME, f"{name}:", f"{subject}, by teaching:") + again)


if __name__ == "__main__": main()
