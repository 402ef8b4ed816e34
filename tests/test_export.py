"What leaves the run folder: loaded by plain peft and transformers, and compared with what the run itself says."
import re, shutil

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from selective_unlearning import export
from selective_unlearning.cli import main
from selective_unlearning.config import configure, path_hash, read_json, write_json
from selective_unlearning.models import adapter, default_dtype
from selective_unlearning.pipeline import Run, run
from tiny import TEXT, settings

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
BFLOAT16 = .05  # of a log-probability, where weights were rounded to 8 binary digits


@pytest.fixture(scope="module", params=["adapter", "all weights"])
def done(tmp_path_factory, request):
    "A finished run."
    home = tmp_path_factory.mktemp("export")
    r = 0 if request.param == "all weights" else 4
    with pytest.MonkeyPatch.context() as m:
        m.setenv("SELECTIVE_UNLEARNING_CACHE", str(home/"cache"))
        run(settings(home, **{"reinforce.lora_r": r, "unlearn.lora_r": r, "unlearn.epochs": 5}), home/"run")
    return home


@torch.no_grad()
def says(model, tokenizer): return model(**tokenizer(TEXT, return_tensors="pt")).logits.float().log_softmax(-1)


def ours(home):
    r = Run(home/"run")
    model, name = r.open("unlearned")
    with adapter(model, name): return says(model.float(), r.tokenizer)


def test_plain_peft_says_the_same(done):
    if not (done/"run"/"5-unlearned"/"adapter_model.safetensors").exists(): pytest.skip("no adapter")
    tok = AutoTokenizer.from_pretrained(done/"llama")
    base = AutoModelForCausalLM.from_pretrained(done/"llama", dtype=default_dtype()).float()
    plain = says(base, tok)
    model = PeftModel.from_pretrained(base, done/"run"/"5-unlearned").eval()
    assert says(model, tok).equal(ours(done))
    assert not says(model, tok).equal(plain)


def test_exported(done, tmp_path, capsys):
    assert main(["export", "--run", f"{done}/run", "--out", f"{tmp_path}/m", "--merge"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/m\n"
    model = AutoModelForCausalLM.from_pretrained(tmp_path/"m", dtype=torch.float32).eval()
    torch.testing.assert_close(says(model, AutoTokenizer.from_pretrained(tmp_path/"m")), ours(done), atol=BFLOAT16, rtol=0)
    assert main(["export", "--run", f"{done}/run", "--out", f"{tmp_path}/n"]) == 0
    card = (tmp_path/"n"/"README.md").read_text()
    assert yaml.safe_load(card.split("---")[1])["base_model"] == "llama"
    assert path_hash(done/"book.txt") in card and path_hash(done/"run"/"2-dictionary"/"dictionary.json") in card
    for p in tmp_path.rglob("*"):
        if p.is_file():
            assert str(done).encode() not in p.read_bytes() and b"book.txt" not in p.read_bytes(), p
            assert p.suffix not in (".bin", ".pt", ".pth", ".pkl")


def test_unfinished_or_taken(done, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    (tmp_path/"taken").mkdir(); (tmp_path/"taken"/"thesis.tex").write_text("x")
    for argv, code, why in ((["--run", f"{done}/llama", "--out", f"{tmp_path}/x"], 1, "llama: not a run folder"),
                            (["--run", f"{done}/run", "--out", f"{tmp_path}/taken"], 1, "taken: is not empty"),
                            (["--run", f"{done}/run", "--out", f"{tmp_path}/x", "--push", "me/x"], 2, "no token: set HF_TOKEN")):
        assert main(["export", *argv]) == code
        assert re.search(why, capsys.readouterr().err)
    assert [p.name for p in tmp_path.iterdir()] == ["taken"]


def test_pushed(done, tmp_path, monkeypatch):
    asked = []
    class Hub:
        def __init__(self, token): asked.append(token)
        def create_repo(self, repo, private, exist_ok): asked.append((repo, private)); return repo
        def repo_info(self, repo): return type("Info", (), dict(private=asked[-1][1]))
        def upload_folder(self, repo_id, folder_path, commit_message): asked.append((repo_id, folder_path, commit_message))
    monkeypatch.setattr(export, "HfApi", Hub)
    monkeypatch.setenv("HF_TOKEN", "secret")
    assert main(["export", "--run", f"{done}/run", "--out", f"{tmp_path}/x", "--push", "me/x"]) == 0
    assert asked[:2] == ["secret", ("me/x", True)] and asked[2][:2] == ("me/x", f"{tmp_path}/x")
    assert not any(b"secret" in p.read_bytes() for p in (tmp_path/"x").rglob("*") if p.is_file())


def test_hostile_names(done, tmp_path):
    "A model's name and a report from outside cannot write Markdown or HTML into the card."
    bad = "evil`\n---\n# x <script>alert(1)</script> [a](http://b) | c"
    shutil.copytree(done/"run", tmp_path/"run")
    m = read_json(tmp_path/"run"/"manifest.json")
    write_json(tmp_path/"run"/"manifest.json", m | dict(model=f"{bad}@1"))
    r = read_json(tmp_path/"run"/"report.json")
    write_json(tmp_path/"run"/"report.json", r | dict(config=r["config"] | dict(seed=f"```\n{bad}")))
    card = export.model_card(tmp_path/"run")
    assert yaml.safe_load(card[4:].split("\n---\n\n")[0])["base_model"] == " ".join(bad.split())
    body = card[4:].split("\n---\n\n", 1)[1]
    outside = re.sub(r"```yaml\n.*?\n```\n", "", body, flags=re.S)
    assert body.count("```") == 2 and "<script>" not in outside
    assert "\n# x" not in outside and "[a](http" not in outside
