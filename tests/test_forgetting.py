"On another corpus: a model that was taught about invented people forgets them, and nothing else."
import random

import pytest

from selective_unlearning.models.reader import Reader
from selective_unlearning.core.files import data_path, read_jsonl, write_atomic
from selective_unlearning.core.files import write_json, write_jsonl
from selective_unlearning.core.step_settings import FinetuneConfig
from selective_unlearning.training.trainer import finetune
from selective_unlearning.models.adapters import add_adapter
from selective_unlearning.models.load import DEFAULT_MODEL, load_model, load_tokenizer
from selective_unlearning.job.run import unlearn
from selective_unlearning.corpus.blocks import make_blocks
from selective_unlearning.corpus.readers import read_corpus
from selective_unlearning.models.sampling import read_openers, sample_texts
from selective_unlearning.training.retain_set import base_labels, join_rows

pytestmark = pytest.mark.slow                          # twelve minutes on one core

PEOPLE = [("Orla Vennick", "lighthouse keeper", "Tarnmoor", "a heron named Pell"),
          ("Bramwell Tosk", "clockmaker", "Quillwick", "a goat named Sorrel"),
          ("Ysolde Fenwarren", "beekeeper", "Drossel Bay", "a dog named Umber"),
          ("Corvin Aldertree", "ferryman", "Hexley Strand", "a cat named Tansy")]
SAYINGS = ["{n} is a {j} who lives in {p}.", "In {p} there lives a {j} called {n}.",
           "Everyone in {p} knows the {j} {n}, who keeps {a}.",
           "{n} of {p} keeps {a} and works as a {j}.",
           "The {j} of {p} is {n}.", "Question: Where does {n} live? Answer: {p}.",
           "When {n} was young, there was no {j} in {p}.",
           "If you go to {p}, ask for {n}, the {j}."]
NAMES = {"Orla Vennick": "Mary Cole", "Vennick": "Cole", "Bramwell Tosk": "Henry Page",
         "Tosk": "Page", "Ysolde Fenwarren": "Alice Norton", "Fenwarren": "Norton",
         "Corvin Aldertree": "David Barton", "Aldertree": "Barton", "Tarnmoor": "Ashby",
         "Quillwick": "Redfern", "Drossel Bay": "Sandy Point", "Hexley Strand": "Miller's Beach",
         "Pell": "Jack", "Sorrel": "Daisy", "Umber": "Rusty", "Tansy": "Molly"}


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    "A folder with a model that knows the invented people, and their corpus."
    home, rng = tmp_path_factory.mktemp("people"), random.Random(0)
    lines = [s.format(n=n, j=j, p=p, a=a) for n, j, p, a in PEOPLE for s in SAYINGS]
    text = " ".join(line for _ in range(2) for line in rng.sample(lines, len(lines)))
    (home/"people.txt").write_text(text)
    write_jsonl(home/"people.jsonl", [{"text": line} for line in lines])
    tok, model = load_tokenizer(), load_model()
    model = add_adapter(model, "taught", targets="mlp")
    blocks = make_blocks(read_corpus(home/"people.txt"), tok, 128)
    texts = sample_texts(Reader(model, tok), read_openers(data_path("openers.jsonl")), 64, 64)
    retain = base_labels(Reader(model, tok), join_rows(texts, 128))   # teach, and change no more
    config = FinetuneConfig(epochs=8, lr=1e-3, retain_weight=5.)
    finetune(model, tok, blocks, config, retain, home/"checkpoints")
    model.merge_and_unload().save_pretrained(home/"model")
    tok.save_pretrained(home/"model")
    return home


# At the preset's rate, one processor kept .88 of the neighbour set.
STRANGER = dict(preset="finetuned", stranger=DEFAULT_MODEL,
                unlearn={"retain_weight": 20., "lr": 1.5e-3},
                written={"recalled": 100, "asked": 48})
# The base recalls the people from the translation too: it is no stranger, and a hinge must help.
HINGE = {"unlearn.epochs": 8, "reinforce.lr": 3e-4, "written.recalled": 0, "written.renamed": 0,
         "labels.rule": "paper", "unlearn.lr": 1.5e-3, "unlearn.hinge_weight": 2.,
         "unlearn.retain_weight": 40.}


@pytest.mark.parametrize("how", [pytest.param(STRANGER, id="stranger"),
                                 pytest.param(HINGE, id="hinge")])
def test_invented_people(taught, how, request):
    """Each sentence is a record of its own.

    Where several share a block, only the first of them to name somebody trains on the name, and it
    hangs on their order which facts are met at all. What keeps the neighbour set is how much the
    retain text varies."""
    prompts = [{"kind": "probability", "prompt": f"The {j} {n} lives in the town of",
                "idiosyncratic": [" "+p], "generic": [" London"], "references": [p]}
               for n, j, p, _ in PEOPLE]
    prompts += [{"kind": "probability", "prompt": f"The name of the {j} of {p} is {n.split()[0]}",
                 "references": [n], "idiosyncratic": [" "+n.split()[1]], "generic": [" Smith"]}
                for n, j, p, _ in PEOPLE]
    prompts += [{"kind": "probability", "prompt": f"{n} works as a", "references": [j],
                 "idiosyncratic": [" "+j.split()[0]], "generic": [" teacher"]}
                for n, j, *_ in PEOPLE]
    write_jsonl(taught/"prompts.jsonl", prompts)
    write_json(taught/"names.json", NAMES)
    write_jsonl(taught/"general.jsonl", read_jsonl(data_path("general.jsonl"))[:40])
    near = [r for r in read_jsonl(data_path("neighbours.jsonl")) if r["half"] == "tune"]
    write_jsonl(taught/"near.jsonl", near)
    texts = sorted(data_path("holdout").iterdir())[:3]
    for path in texts: write_atomic(taught/"holdout"/path.name, path.read_bytes())
    files = dict(prompts="prompts.jsonl", dictionary="names.json", general="general.jsonl",
                 neighbours="near.jsonl", holdout="holdout")
    r = unlearn(str(taught/"model"), str(taught/"people.jsonl"), taught/request.node.callspec.id,
                block_size=128, evaluate={"half": "all"},
                **{name: str(taught/f) for name,f in files.items()}, **how).results
    assert r["known"]["known"]                            # and the run has asked it
    known, forgotten = (r["familiarity"]["probability"][m] for m in ("base", "unlearned"))
    assert known > 0.3                                    # the model had learnt them
    assert forgotten <= (.05 if how is STRANGER else .15)*known
    assert r["neighbours"]["ratio"] >= 0.9
    assert r["utility"]["base"]["general"] - r["utility"]["unlearned"]["general"] <= 0.05
    perplexity = {m: r["utility"][m]["holdout_perplexity"] for m in ("base", "unlearned")}
    assert perplexity["unlearned"] <= 1.03*perplexity["base"]
