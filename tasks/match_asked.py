"""`fute match FILE --ask STUDY`: a study's models answer a target's texts themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydantic import BaseModel

from fute.data.sampling import generator, stratified_sample
from fute.types import Dataset, Pool
from storage import catalog
from storage.store import Store
from tasks.embed import OutputsRef
from tasks.engine import NO_CACHE, task
from tasks.match_target import Columns, labelled_part, read_labelled
from tasks.match_unlabelled import Answered, answered, answers_of, counted, of_classes
from tasks.run import Run, handed_in
from tasks.select import file_pool
from tasks.study import DatasetRef


class Texts(BaseModel):
    """A target's texts, a pool in the store, and their labels where all have one."""

    name: str
    pool: str
    rows: int
    labels: list[int] | None
    label_names: list[str]


@task(cache_policy=NO_CACHE, task_run_name="texts-{target}")
@handed_in
def texts_of(run: Run, target: str, dataset: DatasetRef | None, columns: Columns, rows: int) -> Texts:
    """Texts of a dataset of the study, on the part that no model was trained on, or of a file."""
    store = run.open_store()
    pool, labels, names = texts_to_ask(target, store.dataset(dataset.ref) if dataset else None, columns, rows, run)
    store.put_pool(pool, run.stamp)
    return Texts(name=Path(target).name, pool=pool.id, rows=len(pool), labels=labels, label_names=list(names))


def texts_to_ask(
    target: str, dataset: Dataset | None, columns: Columns, rows: int, run: Run
) -> tuple[Pool, list[int] | None, tuple[str, ...]]:
    """Texts, their labels where all have one, and the labels' names."""
    name = Path(target).name
    if dataset is None and not columns.labelled(Path(target)):
        data = columns.data(Path(target))
        return file_pool(data, columns.text, columns.pair(Path(target)), rows, run.folder, run.seed), None, ()
    labelled = labelled_part(target, dataset or read_labelled(Path(target), columns, rows))
    split, names = labelled.split, labelled.names
    drawn = stratified_sample(split.targets, rows, generator(run.seed, "match", name))
    return Pool(split.inputs.take(drawn), [name] * len(drawn)), split.targets[drawn].tolist(), names


@task(cache_policy=NO_CACHE, task_run_name="match-{texts.name}")
@handed_in
def judge_answers(
    run: Run, texts: Texts, models: list[OutputsRef], labels_file: str, wanted: int, classes: list[str]
) -> str:
    """How often each model is right; the file in the store that says it.

    Args:
        labels_file: where texts to label are written, and read again with their labels.
        wanted: how many; 0: none.
        classes: look only at models that answer these; none: at all.
    """
    store = run.open_store()
    said = {m.id: answers_of(m.id, m.kind, store.outputs(texts.pool, m.ref)) for m in models}
    answers = [each for each in said.values() if each is not None]
    silent = [name for name, each in said.items() if each is None]
    inputs = store.pool(texts.pool).inputs
    if texts.labels is not None:
        answers = of_classes(answers, classes)
        groups = [counted(answers, np.array(texts.labels), texts.label_names)]
        found = Answered(target=texts.name, texts=texts.rows, asked=True, counted=True, groups=groups, silent=silent)
    else:
        found = answered(texts.name, inputs, answers, silent, Path(labels_file), wanted, classes, asked=True)
    name = f"{run.study}.match-{texts.name}.json"
    return str(store.put_report(name, found.model_dump_json(indent=1) + "\n"))


def read_asked(store: Store, flow_run_id: str) -> Answered:
    """What a flow run found."""
    runs = catalog.query(store.root, "SELECT report FROM runs WHERE flow_run_id = $id", {"id": flow_run_id}).rows
    return Answered.model_validate_json(Path(runs[0][0]).read_text(encoding="utf-8"))
