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
WITHOUT = "without the rest"


def parts(texts, own, other):
    "What names the family's terms, and the rest, as documents of a paragraph each."
    def about(terms, text): return any(True for _ in terms.find(text))
    found, rest = [], []
    for paragraph in (p for text in texts for p in text.split("\n\n")):
        mixed = about(own, paragraph) and about(other, paragraph)
        for piece in sentences(paragraph) if mixed else [paragraph]:
            (found if about(own, piece) else rest).append(piece)
    return ([dict(text=piece) for piece in pieces] for pieces in (found, rest))


def near(facts):
    "Facts as a neighbour set."
    return [dict(prompt=f["cloze"], answers=[" "+f["answer"]], topic=f["document"], ring=1)
            for f in facts]


def request(family):
    "The files of a request, by setting."
    home = WORK/SUBJECT/f"request-{family}"
    texts, terms = read_corpus(corpus(SUBJECT))["text"][:], read_json(data_path("saga/terms.json"))
    other, = {*terms}-{family, "both"}
    found = {t.term: t for t in extract_terms(texts)}
    names = propose_translations([found.get(t, t) for t in terms[family]], taken=texts)
    forget, keep = parts(texts, *(TermMatcher(terms[f]) for f in (family, other)))
    of = {f: [fact for fact in facts(SUBJECT) if fact["family"] == f] for f in (family, other)}
    draw = random.Random(0)
    asked = [q for fact in of[family] for q in questions(fact, draw)]
    names.save(home/"dictionary.json")
    for name,records in dict(corpus=forget, retain_corpus=keep, prompts=asked,
                             neighbours=near(of[other])).items():
        write_jsonl(home/f"{name}.jsonl", records)
    return {name: str(home/f"{name}.jsonl") for name in
            ("corpus", "prompts", "neighbours", "retain_corpus")} | {
                "dictionary": str(home/"dictionary.json")}


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
        config = configure(preset("finetuned"), given | dict(
            model=str(taught(SUBJECT)), stranger=DEFAULT_MODEL))
        folder = WORK/SUBJECT/name.replace(",", "").replace(" ", "-")
        save(NAME, others(NAME, [name]) + rows(name, [run(config, folder).results]))


if __name__ == "__main__": main()
