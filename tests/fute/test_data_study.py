import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from fute.config import Study
from fute.errors import ConfigError
from fute.expand import expand_models
from fute.load_study import check_study, load_study, study_from_mapping

GOOD = """
name: small
seed: 3
datasets:
  - id: films
    data: {files: {train: films.csv}}
    min_rows: 2
pool:
  sources:
    - data: {files: "u/*.jsonl"}
models:
  - {kind: trained, recipe: tfidf, dataset: "*"}
  - {kind: prompt, prompt: "*", endpoint: local}
  - {kind: python, id: fn, entry_point: "zoo:answer"}
  - {kind: transformers, id: folder, model: ./bert}
  - {kind: transformers, id: hub, model: someone/bert}
  - {kind: predictions, id: table, file: p.parquet, label: guess}
prompts:
  - {id: plain, template: "{{text}} Good or bad?", verbalizer: {good: [good], bad: [bad]}, task: films}
endpoints:
  - {id: local, base_url: "http://127.0.0.1:9/v1", model: m}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "films.csv").write_text("text,label\n" + "\n".join(f"film {i},{i % 2}" for i in range(20)))
    (tmp_path / "u").mkdir()
    (tmp_path / "u" / "a.jsonl").write_text(json.dumps({"text": "some text"}) + "\n")
    (tmp_path / "zoo.py").write_text("def answer(texts, pairs):\n    return [0 for _ in texts]\n")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text("{}")
    save_file({"w": np.zeros(1)}, tmp_path / "bert" / "model.safetensors")
    pq.write_table(pa.table({"row": [0], "pool": ["a1"], "guess": ["good"]}), tmp_path / "p.parquet")
    return tmp_path


def load(folder, text):
    (folder / "study.yaml").write_text(text)
    return load_study(folder / "study.yaml")


def problems(folder, text):
    """Lines of the one error that loading and checking a study gives."""
    with pytest.raises(ConfigError) as caught:
        check_study(load(folder, text))
    return str(caught.value).splitlines()[1:]


def test_a_good_study_passes_and_its_paths_start_beside_the_file(folder):
    study = load(folder, GOOD)
    check_study(study)
    assert study.base_dir == folder
    assert study.path("films.csv") == folder / "films.csv"
    assert study.datasets[0].data.source == "files"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("min_rows: 2", "labell: x", "datasets[0].labell: unknown field; did you mean 'label'? (value: 'x')"),
        ("seed: 3", "seed: many", "seed: should be a valid integer"),
        ("seed: 3", "seed: -1", "seed: should be greater than or equal to 0 (got -1) [The one seed"),
        ("min_rows: 2", "task: clasification", "datasets[0].task: should be 'classification', 'regression' or"),
        ("min_rows: 2", "label_names: [no, b]", "label_names[0]: should be a valid string (got False); put it in"),
        ("name: small", "", "name: missing; this field is required"),
        ("kind: python", "kind: pyton", "models[2].kind: there is no kind 'pyton'; there are: mlflow, predictions, "),
        ("kind: python, ", "", "models[2].kind: missing; say which kind it is"),
        ("entry_point: \"zoo:answer\"", "entry_point: zoo", "models[2].entry_point: 'zoo' is no entry point"),
        ("endpoint: local", "endpoint: 3", "models[1].endpoint: should be a valid string or a valid list (got 3)"),
        ("endpoint: local", "endpoint: [local, 3]", "models[1].endpoint[1]: should be a valid string (got 3)"),
        ("{files: {train: films.csv}}", "{files: {train: 3}}", "data.files.train: should be a valid string (got 3)"),
        ("{files: {train: films.csv}}", "films.csv", "datasets[0].data: should be a mapping"),
        ("good: [good]", "no: [good]", "prompts[0].verbalizer: a name in this mapping should be a valid string (got F"),
        ("seed: 3", "methods: [{method: crosscov, ridg: 1}]", "methods[0].ridg: unknown field; did you mean 'ridge'?"),
        ("seed: 3", "surrogate: mini", "surrogate: should be a mapping of fields (got 'mini')"),
        ("transformers, id: folder", "span_answerer, top_k: 0, id: folder", "models[3].top_k: should be greater than"),
        ("seed: 3", "base_dir: /tmp", "base_dir: set by fute"),
        ("seed: 3", "unify: {frame: members}", "unify.frame: should be 'pseudo-tasks' or 'none'"),
    ],
)  # fmt: skip
def test_a_wrong_field_gives_one_line_with_field_value_and_fix(folder, old, new, says):
    assert old in GOOD
    found = problems(folder, GOOD.replace(old, new, 1))
    assert len(found) == 1
    assert says in found[0]


def test_many_wrong_fields_stand_in_one_error(folder):
    text = GOOD.replace("seed: 3", "seed: x").replace("min_rows: 2", "min_rows: 1").replace("id: fn", "id: f n")
    assert len(problems(folder, text)) == 3


@pytest.mark.parametrize(
    "field",
    [
        "api_key: sk-very-secret",
        "api_key_env: sk-very-secret",
        "base_url: 'http://a:very-secret@b'",
        "base_url: 'http://b/v1?api=very-secret'",
        "base_url: 'http://b/v1#very-secret'",
        "base_url: 'b/v1?api=very-secret'",
        "base_url: 'a:very-secret@b/v1'",
        "address: 'http://b/v1?api=very-secret'",
    ],
)
def test_a_key_in_a_wrong_place_is_never_shown(folder, field):
    text = GOOD.replace('base_url: "http://127.0.0.1:9/v1"', field)
    assert "very-secret" not in "\n".join(problems(folder, text))


def test_an_address_with_a_query_is_shown_without_it(folder):
    text = GOOD.replace("http://127.0.0.1:9/v1", "https://127.0.0.1:9/v1?x=very-secret")
    (line,) = problems(folder, text)
    assert "(got 'https://127.0.0.1:9/v1' and a query, which is not shown)" in line


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name: a\nname: b\n", "line 2: 'name' stands twice in one mapping (first in line 1)"),
        ("name: a\npool:\n  sources: []\n  sources: []\n", "line 4: 'sources' stands twice"),
        ("name: [a\n", "this is no YAML"),
        ("", "is empty"),
        ("- a\n", "holds list"),
        ("name: !!python/object/apply:os.system [ls]\n", "this is no YAML"),
    ],
)
def test_what_is_no_study_is_explained(folder, text, says):
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    assert says in str(caught.value)


def test_a_merged_mapping_may_be_overridden(folder):
    text = GOOD.replace("seed: 3", "").replace(
        "  - id: films\n    data: {files: {train: films.csv}}\n",
        "  - {<<: &base {id: films, data: {files: x.csv}}, label: y}\n  - <<: *base\n    id: films2\n",
    )
    assert [d.id for d in load(folder, text).datasets] == ["films", "films2"]


def test_a_missing_study_file_names_its_neighbour(folder):
    (folder / "study.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match=r"did you mean 'study\.yaml'"):
        load_study(folder / "studdy.yaml")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("train: films.csv", "train: film.csv", "datasets[0] (films): there is no file 'film.csv'"),
        ("train: films.csv", "training: films.csv", "'training' is no split"),
        (
            "min_rows: 2",
            "label: lable",
            "films.csv: no column 'lable'; did you mean 'label'. Columns there: text, label",
        ),
        ("min_rows: 2", "text_pair: text", "name one column twice"),
        ("min_rows: 2", "min_rows: 2001", "min_rows (2001) is more than max_rows (2000)"),
        ("min_rows: 2", "label_names: [a, a]", "label_names needs two or more different names"),
        ('"u/*.jsonl"', '"v/*.jsonl"', "pool.sources[0]: no file matches 'v/*.jsonl'"),
        ('{files: "u/*.jsonl"}', '{files: "u/*.jsonl"}\n      text: txt', "pool source a: a.jsonl: no column 'txt'"),
        ("pool:", "pool:\n  exclude: [b]", "pool.exclude[0]: 'b' matches none of the 1 sources"),
        ("id: fn", "id: films", "datasets and models: 2 have the id 'films'"),
        ("id: fn", "id: tfidf/films", "datasets and models: 2 have the id 'tfidf/films'"),
        (
            "endpoint: local",
            "endpoint: locl",
            "models[1].endpoint: 'locl' is none of the study's endpoints; did you mean 'local'?",
        ),
        ('prompt: "*"', "prompt: [plain, plan]", "models[1].prompt: 'plan' is none of the study's prompts"),
        (
            'dataset: "*"',
            "dataset: film",
            "models[0].dataset: 'film' is none of the study's datasets; did you mean 'films'?",
        ),
        ('"zoo:answer"', '"zooo:answer"', "models[2] (fn): entry point zooo:answer: there is no module zooo"),
        ("./bert", "./brt", "models[3].model: there is no folder './brt'"),
        ("./bert", "./u", "models[3].model: './u' holds no config.json"),
        ("label: guess", "label: gues", "models[5] (table): p.parquet: no column 'gues'; did you mean 'guess'"),
        ("p.parquet", "q.parquet", "models[5] (table): file: there is no file 'q.parquet'"),
        (", label: guess", "", "give `label`, `probabilities` or `scores`"),
        ("guess}", "guess, row: n, pool: null}", "models[5] (table): p.parquet: no column 'n'"),
        ("label: guess", "start: guess", "models[5] (table): `start` and `end` belong together; give both columns"),
        ("label: guess", "label: guess, answer: guess", "a table predicts one thing; keep one of label, answer"),
        ("label: guess", "label: guess, score: row", "`score` is the probability of an answer span"),
        ("label: guess", "answer: gues", "models[5] (table): p.parquet: no column 'gues'; did you mean 'guess'"),
        (
            "kind: transformers, id: folder, model: ./bert",
            "kind: span_answerer, id: folder, model: ./brt",
            "models[3].model: there is no folder './brt'",
        ),
        ("{{text}}", "{{txt}}", "txt"),
        ("{{text}}", "{text}", "prompt plain"),
        ("bad: [bad]", "bad: [Good]", "'Good'"),
        ("bad: [bad]", "bad: [' ']", "prompt plain"),
        ("seed: 3", "surrogate: {model: ./nowhere}", "surrogate.model: there is no folder './nowhere'"),
        ("recipe: tfidf", "recipe: finetune, backbone: ./nowhere", "models[0].backbone: there is no folder"),
    ],
)
def test_what_a_study_names_must_exist_and_fit(folder, old, new, says):
    assert old in GOOD
    assert says in "\n".join(problems(folder, GOOD.replace(old, new, 1)))


def test_all_that_does_not_fit_stands_in_one_error(folder):
    text = GOOD.replace("train: films.csv", "train: film.csv").replace("./bert", "./brt").replace("{{text}}", "nothing")
    assert len(problems(folder, text)) == 3


def test_checking_reads_no_rows_and_goes_to_no_hub(folder):
    text = GOOD.replace("{files: {train: films.csv}}", "{source: hub, name: someone/films}")
    check_study(load(folder, text))


def test_a_pool_taken_from_the_store_needs_no_sources(folder):
    check_study(load(folder, GOOD.replace("pool:", "pool:\n  reuse: abc").replace('"u/*.jsonl"', '"gone/*"')))


def expanded(models, **settings):
    dataset = {"data": {"files": "x.csv"}}
    prompt = {"template": "{{text}}", "verbalizer": {"a": ["a"], "b": ["b"]}}
    mapping = {
        "name": "s",
        "pool": {"sources": [{"data": {"files": "u"}}]},
        "datasets": [{"id": "d1", **dataset}, {"id": "d2", **dataset}, {"id": "r", "task": "regression", **dataset}],
        "prompts": [{"id": "p1", "task": "d1", **prompt}, {"id": "p2", **prompt}],
        "endpoints": [{"id": e, "base_url": "http://x", "model": "m"} for e in ("e1", "e2")],
        "models": models,
        **settings,
    }
    return expand_models(study_from_mapping(mapping, Path()))


def test_stars_and_lists_make_every_combination_with_names_of_its_own():
    models = expanded(
        [
            {"kind": "prompt", "prompt": "*", "endpoint": ["e1", "e2"], "temperature": 0.5},
            {"kind": "trained", "recipe": "probe", "dataset": "*"},
            {"kind": "prompt", "id": "mine", "prompt": ["p2"], "endpoint": "e1", "task": "d2"},
        ]
    )
    assert [m.id for m in models] == ["p1/e1", "p1/e2", "p2/e1", "p2/e2", "probe/d1", "probe/d2", "mine"]
    assert [(m.prompt, m.endpoint, m.task) for m in models[:3]] == [
        ("p1", "e1", "d1"),
        ("p1", "e2", "d1"),
        ("p2", "e1", None),
    ]
    assert models[0].temperature == 0.5
    assert models[4].dataset == "d1"
    assert models[6].task == "d2"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"kind": "prompt", "id": "x", "prompt": "*", "endpoint": "e1"}, "'x' would name 2 models"),
        ({"kind": "trained", "id": "x", "recipe": "tfidf", "dataset": ["d1", "d2"]}, "'x' would name 2 models"),
        ({"kind": "trained", "recipe": "tfidf", "dataset": []}, "the list is empty"),
        ({"kind": "trained", "recipe": "tfidf", "dataset": "d" * 99}, "at most 100 characters"),
    ],
)
def test_what_cannot_be_written_out_is_explained(model, says):
    with pytest.raises(ConfigError, match=says):
        expanded([model])
    if model.get("dataset") == "d" * 99:
        return
    with pytest.raises(ConfigError, match="no classification datasets"):
        expanded([{"kind": "trained", "recipe": "tfidf", "dataset": "*"}], datasets=[])


def test_every_field_of_a_study_says_what_it_is():
    definitions = Study.model_json_schema()["$defs"]
    silent = [
        f"{name}.{field}"
        for name, schema in definitions.items()
        for field, value in schema.get("properties", {}).items()
        if "description" not in value and "const" not in value and field not in ("id",)
    ]
    assert silent == [], "an error about a field quotes its description"
