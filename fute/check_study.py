"""Cross-checks of a study before any work: do the things that its fields name exist, and fit together?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from fute.config import (
    DatasetConfig,
    PredictionsModel,
    PromptModel,
    PythonModel,
    SklearnModel,
    SpanAnswererModel,
    Study,
    TrainedModel,
    TransformersModel,
)
from fute.data.files import file_format, matching_files, missing_columns, open_file
from fute.data.pool_sources import pool_sources
from fute.data.read import source_problems, split_name_problems
from fute.did_you_mean import did_you_mean, listed
from fute.entry_point import entry_point_identity
from fute.errors import ConfigError, DataError, ModelError, SurrogateError
from fute.evaluate.transfer_scores import NO_SOURCE
from fute.expand import expand_models
from fute.llm.check_endpoints import endpoint_problems
from fute.llm.prompts import prompt_problems
from fute.models.predictions_table import NO_POOL, POOL, unknown_pool
from fute.surrogate.model_files import check_model_folder
from fute.surrogate.vectors import NONE, VECTORS, has_no_model, vectors_file
from fute.types import Pool

READ_ROWS = ("sklearn", "python", "mlflow", "predictions")
"""Kinds of models whose inputs need not be texts."""
TRAINED = ("tupate", "taskemb")


def check_reused(study: Study, pool: Pool) -> None:
    """Check a study against a pool that it takes from the store.

    Raises:
        ConfigError: the pool's inputs are rows of a table, and not all of the study reads such.
    """
    if pool.inputs.columns is None:
        return
    columns = list(pool.inputs.columns)
    reads_texts = [f"model {m.id or m.kind}" for m in study.models if m.kind not in READ_ROWS]
    reads_texts += [f"dataset {d.id}" for d in study.datasets if d.columns != columns]
    if reads_texts:
        raise ConfigError(
            f"pool.reuse: the pool's inputs are rows of {listed(columns)}, and {listed(reads_texts)} reads others; "
            "take it out, or give the dataset these `columns`"
        )


def check_study(study: Study) -> None:
    """Look at files, columns, names and templates; read no rows, go to no network, load no model.

    Raises:
        ConfigError: all that is wrong, one line each.
    """
    checks = (
        _subjects,
        _ids,
        _datasets,
        _pool,
        _surrogate,
        _columns,
        prompt_problems,
        endpoint_problems,
        _local_endpoints,
        _models,
        _transfer,
    )
    problems = list(dict.fromkeys(problem for check in checks for problem in check(study)))
    if problems:
        raise ConfigError(
            f"study {study.name} cannot be run as it is:\n" + "\n".join(f"  - {problem}" for problem in problems)
        )


def _subjects(study: Study) -> Iterator[str]:
    if not study.datasets and not study.models:
        yield "datasets and models are both empty; give at least one of either to embed"
    if not study.methods:
        yield "methods is empty; give one or more of crosscov, outputs, tupate and taskemb (or leave the field out)"
    for method, count in Counter(m.method for m in study.methods).items():
        if count > 1:
            yield f"methods: {method} stands there {count} times; put the second setting into a study of its own"


def _ids(study: Study) -> Iterator[str]:
    try:
        models = expand_models(study)
    except ConfigError as exc:
        yield str(exc)
        models = []
    subjects = [d.id for d in study.datasets] + [m.id for m in models if m.id is not None]
    for what, ids in (
        ("datasets and models", subjects),
        ("prompts", [p.id for p in study.prompts]),
        ("endpoints", [e.id for e in study.endpoints]),
    ):
        for id_, count in Counter(ids).items():
            if count > 1:
                yield f"{what}: {count} have the id {id_!r}; give each an id of its own"


def _datasets(study: Study) -> Iterator[str]:
    for number, dataset in enumerate(study.datasets):
        where = f"datasets[{number}] ({dataset.id})"
        for problem in _dataset(dataset, study.base_dir):
            yield f"{where}: {problem}"


def _dataset(dataset: DatasetConfig, base_dir: Path) -> Iterator[str]:
    yield from split_name_problems(dataset.data, base_dir)
    named = {"text": dataset.text, "text_pair": dataset.text_pair, "label": dataset.label}
    columns = [column for column in named.values() if column is not None]
    if dataset.columns is not None:
        columns = [*dataset.columns, dataset.label]
        if dataset.label in dataset.columns:
            yield f"label: {dataset.label!r} is one of `columns`, which every model is shown; take it out there"
        if dataset.text_pair is not None or dataset.task == "span_qa":
            yield "columns: a row has no second text; take text_pair out, or `columns`"
    elif len(set(columns)) < len(columns):
        yield f"{listed(f'{k}: {v}' for k, v in named.items() if v)} name one column twice; name different ones"
    if dataset.task == "span_qa" and dataset.text_pair is None:
        yield "task span_qa needs text_pair, the column of the context"
    if dataset.task != "classification" and dataset.label_names is not None:
        yield f"label_names are for a classification, but task is {dataset.task}; take one of them out"
    names = dataset.label_names or []
    if dataset.label_names is not None and (len(set(names)) < 2 or len(set(names)) < len(names)):
        yield f"label_names needs two or more different names, got {listed(map(repr, names))}"
    if dataset.min_rows > dataset.max_rows:
        yield f"min_rows ({dataset.min_rows}) is more than max_rows ({dataset.max_rows}); lower one or raise the other"
    yield from source_problems(dataset.data, columns, base_dir)


def _pool(study: Study) -> Iterator[str]:
    if study.pool.reuse is not None:
        return  # its sources are not read
    try:
        sources = pool_sources(study.pool, study.base_dir)
    except ConfigError as exc:
        yield from str(exc).splitlines()
        return
    for source in sources:
        for problem in source_problems(source.data, source.columns, study.base_dir):
            yield f"pool source {source.id}: {problem}"


def _columns(study: Study) -> Iterator[str]:
    """Of inputs that are no texts: the same for all, and read by what can read them."""
    of_pool = [] if study.pool.reuse is not None else study.pool.sources
    named = {f"pool.sources[{number}]": source.columns for number, source in enumerate(of_pool)}
    named |= {f"datasets ({d.id})": d.columns for d in study.datasets}
    columns = next((each for each in named.values() if each is not None), None)
    if columns is None:
        return
    for where, own in named.items():
        if own != columns:
            told = "reads texts" if own is None else f"has the columns {listed(own)}"
            yield f"{where} {told}, another input {listed(columns)}; give all inputs the same `columns`, in one order"
    if len(set(columns)) < len(columns):
        yield f"columns: {listed(columns)} name one twice; take it out"
    for number, model in enumerate(study.models):
        if model.kind not in READ_ROWS:
            yield f"models[{number}]: kind {model.kind} reads texts, and the inputs are rows; use {listed(READ_ROWS)}"
    if any(m.needs_surrogate for m in study.methods) and not has_no_model(study.surrogate.model):
        yield (
            f"surrogate.model: {study.surrogate.model} reads texts, and the inputs are rows; set it to vectors (their "
            "own values) or vectors:FILE (your features), or use method outputs alone"
        )


def _surrogate(study: Study) -> Iterator[str]:
    model = study.surrogate.model
    if has_no_model(model):
        needing = [m.method for m in study.methods if m.needs_surrogate and (model == NONE or m.method in TRAINED)]
        if needing:
            able = "method outputs" if model == NONE else "crosscov or outputs"
            yield f"surrogate.model: {model} is no model, and {listed(needing)} needs one; use {able}"
        sources = [] if study.pool.reuse is not None else study.pool.sources
        if model == VECTORS and any(source.columns is None for source in sources):
            yield "surrogate.model: vectors takes values of the pool's `columns`, and it has texts; name vectors:FILE"
        if model.startswith(f"{VECTORS}:") and any(source.text_pair is not None for source in sources):
            yield f"surrogate.model: {model} looks single texts up, and the pool has pairs; take text_pair out"
        if texts := [prompt.id for prompt in study.prompts if prompt.answer == "text"]:
            yield f"surrogate.model: {model} is no model, and answers in free text ({listed(texts)}) are read by one"
        try:
            vectors_file(model, study.base_dir)
        except SurrogateError as exc:
            yield str(exc)
    elif not model.startswith("embedded:"):
        yield from _model_folder("surrogate.model", study.surrogate.model, study)


def _local_endpoints(study: Study) -> Iterator[str]:
    for number, endpoint in enumerate(study.endpoints):
        if endpoint.api == "local":
            yield from _model_folder(f"endpoints[{number}].model", endpoint.model, study)


def _models(study: Study) -> Iterator[str]:
    for number, model in enumerate(study.models):
        where = f"models[{number}]"
        if isinstance(model, PromptModel):
            yield from _known(f"{where}.prompt", model.prompt, [p.id for p in study.prompts], "prompts")
            yield from _known(f"{where}.endpoint", model.endpoint, [e.id for e in study.endpoints], "endpoints")
            if model.ask is not None and any(m.method == "outputs" for m in study.methods):
                yield f"{where}.ask: method outputs compares answers to all rows of the pool; leave one of the two out"
        elif isinstance(model, TrainedModel):
            yield from _trained(where, model, study)
        elif isinstance(model, TransformersModel | SpanAnswererModel):
            yield from _model_folder(f"{where}.model", model.model, study)
        elif isinstance(model, PredictionsModel):
            for problem in _predictions(model, study.base_dir):
                yield f"{where} ({model.id}): {problem}"
        elif isinstance(model, SklearnModel | PythonModel):
            try:
                entry_point_identity(model.entry_point, study.base_dir)
            except (ConfigError, ModelError) as exc:
                yield f"{where} ({model.id}): {exc}"


def _trained(where: str, model: TrainedModel, study: Study) -> Iterator[str]:
    tasks = {d.id: d.task for d in study.datasets}
    yield from _known(f"{where}.dataset", model.dataset, tasks, "datasets")
    for name in _names(model.dataset):
        if tasks.get(name, "classification") != "classification":
            yield f"{where}.dataset: {name!r} is a {tasks[name]} dataset; fute trains on classification datasets only"
    if model.backbone is not None:
        yield from _model_folder(f"{where}.backbone", model.backbone, study)


def _transfer(study: Study) -> Iterator[str]:
    if study.transfer is None:
        return
    tasks = {d.id: d.task for d in study.datasets}
    for field in ("sources", "targets"):
        where, named = f"transfer.{field}", getattr(study.transfer, field)
        yield from _known(where, named, tasks, "datasets")
        for name in _names(named):
            if tasks.get(name, "classification") != "classification":
                yield f"{where}: {name!r} is a {tasks[name]} dataset; transfer is measured on classification datasets"
    if NO_SOURCE in tasks:
        yield f"transfer: {NO_SOURCE!r} stands for the plain backbone; give the dataset of this name another id"
    if study.transfer.backbone is not None:
        yield from _model_folder("transfer.backbone", study.transfer.backbone, study)


def _predictions(model: PredictionsModel, base_dir: Path) -> Iterator[str]:
    given = {
        "label": model.label is not None,
        "probabilities": bool(model.probabilities),
        "scores": bool(model.scores),
        "start and end": model.start is not None or model.end is not None,
        "answer": model.answer is not None,
    }
    if not any(given.values()):
        yield (
            "give `label`, `probabilities` or `scores` (or `start` and `end`, or `answer`), the columns of what it "
            "predicts"
        )
    if sum(given.values()) > 1 and (model.gives_spans or model.scores):
        yield f"a table predicts one thing; keep one of {listed(what for what, there in given.items() if there)}"
    if (model.start is None) != (model.end is None):
        yield "`start` and `end` belong together; give both columns"
    if model.score is not None and not model.gives_spans:
        yield "`score` is the probability of an answer span; give `start` and `end`, or `answer`"
    if model.row is None and model.text is None:
        yield "give `row` or `text`, the column that says which input a prediction is of"
    by_text = [model.text, model.text_pair] if model.text is not None else []
    spans = [model.start, model.end, model.answer, model.score]
    columns = [model.row if model.text is None else None, *by_text, model.label, *model.numbers, *spans]
    try:
        for file in matching_files(model.file, base_dir):
            wanted = [column for column in columns if column is not None]
            opened = open_file(file, file_format(file))
            if problem := missing_columns(opened, wanted):
                unnumbered = model.text is None and model.row not in opened.columns(wanted)
                yield f"{problem}. To find rows by their text: row: null, text: its column" if unnumbered else problem
            elif unknown_pool(model, opened.columns([*wanted, POOL])):
                yield f"{file.name} {NO_POOL}"
    except (ConfigError, DataError) as exc:
        yield f"file: {exc}"


def _names(value: str | list[str]) -> list[str]:
    return [name for name in ([value] if isinstance(value, str) else value) if name != "*"]


def _known(where: str, value: str | list[str], known: Iterable[str], what: str) -> Iterator[str]:
    there = list(known)
    for name in _names(value):
        if name not in there:
            hint = did_you_mean(name, there) or "."
            yield f"{where}: {name!r} is none of the study's {what}{hint} There are: {listed(there)}"


def _model_folder(where: str, name: str, study: Study) -> Iterator[str]:
    """A name that starts with . or / or ~, or that exists, is a local folder; any other is the hub's."""
    folder = study.path(name)
    if not name.startswith((".", "/", "~")) and not folder.exists():
        return
    if not folder.is_dir():
        near = did_you_mean(folder.name, (p.name for p in folder.parent.iterdir())) if folder.parent.is_dir() else ""
        yield f"{where}: there is no folder {name!r} (looked for {folder}){near}"
    elif not (folder / "config.json").is_file():
        yield f"{where}: {name!r} holds no config.json; name the folder that save_pretrained wrote"
    else:
        try:
            check_model_folder(folder, name)
        except SurrogateError as exc:
            yield f"{where}: {exc}"
