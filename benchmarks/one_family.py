"""A request for deletion: of two families that a model was taught, one goes and the other stays.

    python benchmarks/one_family.py [--variant "without the rest"] [FAMILY …]     A if none is named

The model is the one that `taught.py saga` taught a saga of two families. To be forgotten is what
names a term of one family (data/saga/terms.json): paragraphs, or the sentences of those that name
the other family too. The rest of the saga is given as texts to keep; a variant goes without. The
split is by names alone: of A, 31 of 131 pieces name the other family too, and of the 221 of the
rest 121 name neither, some of them about A. The dictionary has the family's terms and no others.
Asked are the family's facts; the neighbour set is the other family's. The stranger was taught
nothing and is the control.
"""
import argparse, random

from run import others, save
from taught import WORK, corpus, facts, questions, rows, taught

from selective_unlearning.core.files import data_path, read_json, write_jsonl
from selective_unlearning.core.text import sentences
from selective_unlearning.corpus.readers import read_corpus
from selective_unlearning.job.run import run
from selective_unlearning.job.settings import configure, preset
from selective_unlearning.models.load import DEFAULT_MODEL
from selective_unlearning.terms.extract import extract_terms
from selective_unlearning.terms.match import TermMatcher
from selective_unlearning.terms.translate import propose_translations

NAME, SUBJECT = "one_family", "saga"
KEEPING = {"unlearn.retain_weight": 10., "unlearn.epochs": 2}
WITHOUT = "without the rest"


def parts(texts, own, other):
    "What names the family's terms, and the rest, as documents of a paragraph each."
    found, rest = [], []
    for paragraph in (p for text in texts for p in text.split("\n\n")):
        mixed = own.find(paragraph) and other.find(paragraph)
        for piece in sentences(paragraph) if mixed else [paragraph]:
            (found if own.find(piece) else rest).append(piece)
    return ([dict(text=piece) for piece in pieces] for pieces in (found, rest))


def neighbour(fact):
    "A fact as a probe of the neighbour set."
    return dict(prompt=fact["cloze"], answers=[" "+fact["answer"]], topic=fact["document"], ring=1)


def request(family):
    "The files of a request, by setting."
    home = WORK/SUBJECT/f"request-{family}"
    texts, terms = read_corpus(corpus(SUBJECT))["text"][:], read_json(data_path("saga/terms.json"))
    other, = {*terms}-{family, "both"}
    found = {t.term: t for t in extract_terms(texts)}
    names = propose_translations([found.get(t, t) for t in terms[family]], taken=texts)
    forget, keep = parts(texts, *(TermMatcher(terms[f]) for f in (family, other)))
    of = {f: [fact for fact in facts(SUBJECT) if fact["family"] == f] for f in (family, other)}
    draw, dictionary = random.Random(0), home/"dictionary.json"
    names.save(dictionary)
    files = dict(corpus=forget, retain_corpus=keep,
                 prompts=[q for fact in of[family] for q in questions(fact, draw)],
                 neighbours=[*map(neighbour, of[other])])
    for name,records in files.items(): write_jsonl(home/f"{name}.jsonl", records)
    return dict(dictionary=str(dictionary)) | {n: str(home/f"{n}.jsonl") for n in files}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("families", nargs="*", metavar="FAMILY", default=["A"])
    parser.add_argument("--variant", choices=["", WITHOUT], default="")
    args = parser.parse_args()
    if unknown := {*args.families}-{"A", "B"}: parser.error(f"no family {', '.join(unknown)}")
    for family in args.families:
        given = request(family)
        if args.variant == WITHOUT: del given["retain_corpus"]
        name = ", ".join(filter(None, (f"family {family}", args.variant)))
        config = configure(preset("finetuned"), KEEPING | given | dict(
            model=str(taught(SUBJECT)), stranger=DEFAULT_MODEL))
        folder = WORK/SUBJECT/name.replace(",", "").replace(" ", "-")
        save(NAME, others(NAME, f"{name}:") + rows(name, [run(config, folder).results]))


if __name__ == "__main__": main()
