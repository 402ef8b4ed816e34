"""From a wheel to a model that others load, with a text of one's own.

The checkout only teaches a model what the text says. After that, everything is done as somebody
does it who has the wheel and the pages on its use, in another folder: find the terms, review them,
run, read the report, chat, export, and load the result with transformers and PEFT alone."""
import json, re

import pytest
from test_forgetting import PEOPLE, SAYINGS, taught     # noqa: F401
from test_packaging import built, installed             # noqa: F401

from selective_unlearning.core.files import write_jsonl

pytestmark = pytest.mark.slow

REVIEW = """
import sys
import selective_unlearning as su
found, reviewed, term = sys.argv[1:]
names = su.Dictionary.load(found)
names.change(term, translations="Mary Cole", locked=True).validate().save(reviewed)
"""
OTHERS = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
base, adapter, merged, said, answer = sys.argv[1:]
tok = AutoTokenizer.from_pretrained(merged)
def load(folder): return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
def chance(model):
    with torch.no_grad(): scores = model.eval()(**tok(said, return_tensors="pt")).logits[0, -1]
    return float(scores.softmax(-1)[tok(answer).input_ids[0]])
adapted = PeftModel.from_pretrained(load(base), adapter)
print(chance(load(base)), chance(load(merged)), chance(adapted))
"""


@pytest.fixture(scope="module")
def files(taught):                                      # noqa: F811
    "Three files of three kinds, and prompts."
    texts = taught/"texts"
    texts.mkdir()
    lines = [s.format(n=n, j=j, p=p, a=a) for n,j,p,a in PEOPLE for s in SAYINGS]
    (texts/"one.txt").write_text("\n\n".join(lines[0::3]))
    paragraphs = "".join(f"<p>{line}</p>" for line in lines[1::3])
    (texts/"two.html").write_text(f"<html><body>{paragraphs}</body></html>")
    (texts/"three.md").write_text("# People\n\n"+"\n\n".join(lines[2::3]))
    write_jsonl(taught/"mine.jsonl", [
        dict(kind="probability", prompt=f"{n} works as a", idiosyncratic=[" "+j.split()[0]],
             references=[j]) for n,j,*_ in PEOPLE])
    return ["--model", taught/"model", "--stranger", "smollm2-135m", "--corpus", texts,
            "--prompts", taught/"mine.jsonl"]


def test_from_a_wheel_to_a_model_for_others(taught, files, installed, tmp_path):  # noqa: F811
    folder, found = tmp_path/"run", tmp_path/"run/02-dictionary/dictionary.json"
    reviewed = tmp_path/"names.json"

    def command(*argv, **kw):
        said = installed("selective-unlearning", *argv, **kw)
        assert "Traceback" not in said
        return said
    run = ["run", "--preset", "finetuned", *files, "--out", folder]
    assert str(found.parent) in command(*run, "--until", "dictionary")
    terms = {e["term"]: e["translations"] for e in json.loads(found.read_text())["entries"]}
    assert {n for n,*_ in PEOPLE} <= {*terms}
    installed("python", "-c", REVIEW, found, reviewed, PEOPLE[0][0])
    said = command(*run, "--dictionary", reviewed)
    assert str(folder/"report.html") in said
    results = json.loads((folder/"report.json").read_text())
    assert abs(results["forgotten"]["probability"]) < .1
    page = re.sub("<(style|script).*?</\\1>", "", (folder/"report.html").read_text(), flags=re.S)
    assert not re.search(r"\b(nan|None|inf|undefined)\b", re.sub("<[^>]*>", " ", page))
    assert str(folder/"report.html") in command("report", "--run", folder)
    talk = command("chat", "--run", folder, "--plain", "--max-new-tokens", 5,
                   input=f"{PEOPLE[0][0]} works as a\n")
    asked, answers, *_ = talk.partition("UNLEARNED\n")[2].splitlines()
    before, after = answers.split("|")
    assert asked == f"> {PEOPLE[0][0]} works as a"
    job = PEOPLE[0][1].split()[0]
    assert job in before and job not in after
    export = ["export", "--run", folder, "--out"]
    command(*export, tmp_path/"adapter")
    command(*export, tmp_path/"merged", "--merge")
    chances = installed("python", "-c", OTHERS, taught/"model", tmp_path/"adapter",
                        tmp_path/"merged", f"{PEOPLE[0][0]} works as a", " "+job)
    was, merged, adapter = map(float, chances.splitlines()[-1].split())
    assert was > .3 and merged < .1*was and adapter == pytest.approx(merged, rel=.1, abs=.01)
