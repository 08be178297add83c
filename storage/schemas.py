"""The columns of everything in the store. One schema a view; JSON columns hold what differs from row to row."""

from __future__ import annotations

import pyarrow as pa

UTC = pa.timestamp("us", tz="UTC")

# What every record says about its making: the MLflow run, the Prefect flow run, the commit of the code, the time.
STAMP = [
    pa.field("run_id", pa.string()),
    pa.field("flow_run_id", pa.string()),
    pa.field("git_commit", pa.string()),
    pa.field("created_at", UTC),
]

DATASETS = pa.schema(
    [
        pa.field("ref", pa.string()),  # id@fingerprint: the folder's name
        pa.field("id", pa.string()),
        pa.field("fingerprint", pa.string()),
        pa.field("task", pa.string()),
        pa.field("family", pa.string()),
        pa.field("label_names", pa.list_(pa.string())),
        pa.field("n_train", pa.int32()),
        pa.field("n_validation", pa.int32()),
        pa.field("n_test", pa.int32()),
        pa.field("provenance", pa.string()),
        pa.field("report", pa.string()),
        *STAMP,
    ]
)

POOLS = pa.schema(
    [
        pa.field("pool", pa.string()),
        pa.field("n_rows", pa.int32()),
        pa.field("n_sources", pa.int32()),
        pa.field("n_pairs", pa.int32()),
        pa.field("report", pa.string()),
        *STAMP,
    ]
)

# Without a stamp: it is on the pool's and the dataset's own row.
POOL_ROWS = pa.schema(
    [
        pa.field("pool", pa.string()),
        pa.field("row", pa.int32()),
        pa.field("text", pa.string()),
        pa.field("text_pair", pa.string()),
        pa.field("source_id", pa.string()),
    ]
)

DATASET_FILES = pa.schema(
    [
        pa.field("dataset", pa.string()),  # ref
        pa.field("split", pa.string()),
        pa.field("row", pa.int32()),
        pa.field("text", pa.string()),
        pa.field("text_pair", pa.string()),
        pa.field("label", pa.float64()),  # a class's number, or the number itself
        pa.field("start", pa.int64()),  # of an answer span; -1: none
        pa.field("end", pa.int64()),
    ]
)

MODELS = pa.schema(
    [
        pa.field("ref", pa.string()),
        pa.field("id", pa.string()),
        pa.field("fingerprint", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("task", pa.string()),  # the dataset that it was made for, where known
        pa.field("score", pa.float64()),  # held out; null where unknown
        pa.field("score_name", pa.string()),
        pa.field("majority", pa.float64()),  # the same score of always answering the most frequent label
        pa.field("settings", pa.string()),
        *STAMP,
    ]
)

PROMPTS = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("fingerprint", pa.string()),
        pa.field("template", pa.string()),
        pa.field("system", pa.string()),
        pa.field("verbalizer", pa.string()),
        pa.field("cot", pa.bool_()),
        pa.field("follow_up", pa.string()),  # what asks for the answer after the reasoning; null: the usual words
        pa.field("answer", pa.string()),  # label or text
        pa.field("parse", pa.string()),  # how texts are read where there are no log-probabilities
        *STAMP,
    ]
)

RESPONSES = pa.schema(
    [
        pa.field("key", pa.string()),
        pa.field("service", pa.string()),
        pa.field("base_url", pa.string()),
        pa.field("model", pa.string()),
        pa.field("resolved_model", pa.string()),
        pa.field("messages", pa.string()),  # JSON [{role, content}]
        pa.field("params", pa.string()),  # JSON
        pa.field("answer", pa.string()),
        pa.field("logprobs", pa.string()),  # JSON [[token, logprob, [[token, logprob], ...]], ...], or null
        pa.field("tokens_in", pa.int64()),
        pa.field("tokens_out", pa.int64()),
        pa.field("cost_usd", pa.float64()),  # null where the endpoint's price or its tokens are not known
        pa.field("latency_ms", pa.float64()),
        pa.field("finish_reason", pa.string()),
        pa.field("run_id", pa.string()),  # whose run asked and paid
        pa.field("flow_run_id", pa.string()),
        pa.field("created_at", UTC),
    ]
)

OUTPUTS = pa.schema(
    [
        pa.field("pool", pa.string()),
        pa.field("model", pa.string()),
        pa.field("row", pa.int32()),
        pa.field("answered", pa.bool_()),
        pa.field("label", pa.string()),  # the most probable label; null for scores, embeddings and spans
        pa.field("values", pa.list_(pa.float32())),
        pa.field("answer_key", pa.string()),  # of the LLM's answer that was read; null where there is none
        pa.field("other_keys", pa.list_(pa.string())),  # of those on the way to it: reasoning, other samples
        *STAMP,
    ]
)

SPACES = pa.schema(
    [
        pa.field("space", pa.string()),
        pa.field("method", pa.string()),
        pa.field("surrogate", pa.string()),
        pa.field("revision", pa.string()),
        pa.field("pool", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("settings", pa.string()),
        *STAMP,
    ]
)


def embeddings(dim: int | None = None) -> pa.Schema:
    """Embeddings; the vector has a fixed length within a space, and any length across them."""
    vector = pa.list_(pa.float32()) if dim is None else pa.list_(pa.float32(), dim)
    return pa.schema(
        [
            pa.field("space", pa.string()),
            pa.field("kind", pa.string()),
            pa.field("fingerprint", pa.string()),
            pa.field("subject", pa.string()),
            pa.field("subject_fingerprint", pa.string()),
            pa.field("subject_kind", pa.string()),  # task type of a dataset, kind of a model
            pa.field("task", pa.string()),
            pa.field("method", pa.string()),
            pa.field("surrogate", pa.string()),
            pa.field("revision", pa.string()),
            pa.field("pool", pa.string()),
            pa.field("seed", pa.int64()),
            pa.field("settings", pa.string()),
            pa.field("metrics", pa.string()),
            pa.field("dim", pa.int32()),
            pa.field("norm", pa.float32()),
            pa.field("vector", vector),
            *STAMP,
        ]
    )


EMBEDDINGS = embeddings()

FRAMES = pa.schema(
    [
        pa.field("space", pa.string()),
        pa.field("version", pa.int32()),
        pa.field("tasks", pa.int32()),  # of the pool's own, that it was made of
        pa.field("own_model_first", pa.float64()),  # how often the other half of such a task comes first
        pa.field("own_dataset_first", pa.float64()),
        pa.field("mean", pa.list_(pa.float32())),  # what is subtracted from every vector
        pa.field("nulls", pa.string()),  # by kinds: how scores of unrelated pairs are distributed
        *STAMP,
    ]
)

ALIGNMENTS = pa.schema(
    [
        pa.field("space_a", pa.string()),
        pa.field("space_b", pa.string()),
        pa.field("version", pa.int32()),
        pa.field("fidelity", pa.float64()),  # of the pseudo-tasks that are found within space_b, the share found from a
        pa.field("tasks", pa.int32()),
        pa.field("mapped_model_first", pa.float64()),  # how often the other half of a mapped pseudo-task comes first
        pa.field("mapped_dataset_first", pa.float64()),
        pa.field("own_model_first", pa.float64()),  # the same within space_b
        pa.field("own_dataset_first", pa.float64()),
        pa.field("shared", pa.int32()),  # subjects that both spaces held
        pa.field("shared_first", pa.int32()),  # of these, the ones nearest to themselves among all of their kind
        pa.field("axes_a", pa.int32()),
        pa.field("matrix", pa.list_(pa.float64())),  # the map, row by row, axes_a numbers each
        *STAMP,
    ]
)

NEIGHBORS = pa.schema(
    [
        pa.field("space", pa.string()),
        pa.field("query", pa.string()),
        pa.field("query_kind", pa.string()),
        pa.field("candidate", pa.string()),
        pa.field("candidate_kind", pa.string()),
        pa.field("rank", pa.int32()),
        pa.field("score", pa.float32()),  # above chance (fute.unify.frame), 0 at least; null without a frame
        pa.field("ci_low", pa.float32()),  # of the score
        pa.field("ci_high", pa.float32()),
        pa.field("p_value", pa.float64()),  # the largest: of the best of as many unrelated ones, and of each side's own
        pa.field("verdict", pa.string()),  # fits, may fit, nothing; null: not judged
        pa.field("ahead", pa.float32()),  # of rank 1: its score less that of rank 2, neither cut off at 0
        pa.field("ahead_low", pa.float32()),
        pa.field("ahead_high", pa.float32()),
        pa.field("similarity", pa.float32()),  # cosine in the frame
        *STAMP,
    ]
)

# What follows from pool, surrogate, outputs and labels: the same for all methods.
ACCURACIES = pa.schema(
    [
        pa.field("pool", pa.string()),
        pa.field("surrogate", pa.string()),
        pa.field("revision", pa.string()),
        pa.field("settings", pa.string()),  # JSON, of the surrogate
        pa.field("dataset", pa.string()),  # ref
        pa.field("model", pa.string()),  # ref
        pa.field("expected_accuracy", pa.float64()),  # share of texts that it will answer rightly; null: unknown
        pa.field("accuracy_low", pa.float64()),  # within which it lies in 9 of 10 cases
        pa.field("accuracy_high", pa.float64()),
        pa.field("accuracy_unknown", pa.string()),  # why it is
        pa.field("balanced_accuracy", pa.float64()),  # mean share of each label's texts that it will answer rightly
        pa.field("balanced_low", pa.float64()),
        pa.field("balanced_high", pa.float64()),
        pa.field("balanced_chance", pa.float64()),  # of giving all texts the same label
        pa.field("most_frequent", pa.string()),  # label
        pa.field("majority", pa.float64()),  # accuracy of always answering it
        pa.field("texts", pa.int32()),  # labelled ones that it was judged on
        pa.field("split", pa.string()),  # that they are of
        pa.field("agreement", pa.float64()),  # of the read-out with the model on the pool; null: counted
        pa.field("meaning", pa.string()),  # JSON {class: label that it was read as}
        pa.field("turned", pa.bool_()),  # its classes go with the labels in another order than their names say
        *STAMP,
    ]
)

# Which embedding of each subject a ranking saw.
MEMBERS = pa.schema(
    [
        pa.field("space", pa.string()),
        pa.field("ranking", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("subject", pa.string()),
        pa.field("fingerprint", pa.string()),
        pa.field("subject_fingerprint", pa.string()),
        # Mean and deviation of its cosines with unrelated datasets and models; null without a frame.
        pa.field("dataset_mean", pa.float64()),
        pa.field("dataset_sd", pa.float64()),
        pa.field("model_mean", pa.float64()),
        pa.field("model_sd", pa.float64()),
        *STAMP,
    ]
)

RETIREMENTS = pa.schema(
    [
        pa.field("kind", pa.string()),
        pa.field("subject", pa.string()),
        pa.field("retired", pa.bool_()),  # false: brought back
        *STAMP,
    ]
)

EVALUATIONS = pa.schema(
    [
        pa.field("name", pa.string()),  # what was evaluated: transfer ...
        pa.field("space", pa.string()),
        pa.field("subject", pa.string()),
        pa.field("candidate", pa.string()),  # what was tried on the subject (a transfer's source); null without one
        pa.field("seed", pa.int64()),
        pa.field("measure", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("settings", pa.string()),
        pa.field("details", pa.string()),  # what else was measured
        *STAMP,
    ]
)

DRIFT = pa.schema(
    [
        pa.field("study", pa.string()),
        pa.field("model", pa.string()),
        pa.field("model_ref", pa.string()),
        pa.field("pool", pa.string()),
        pa.field("panel", pa.string()),
        pa.field("baseline", pa.string()),
        pa.field("tier", pa.string()),  # wire, panel, settings
        pa.field("state", pa.string()),  # unchanged, changed, tripped, settings, unread
        pa.field("drifted", pa.bool_()),
        pa.field("reasons", pa.list_(pa.string())),  # the verdict
        pa.field("changed", pa.list_(pa.string())),  # settings that are not the baseline's
        pa.field("p_value", pa.float64()),
        pa.field("asked", pa.list_(pa.int32())),  # rows of each batch
        pa.field("label_changed", pa.list_(pa.int32())),  # of each batch
        pa.field("moved", pa.list_(pa.int32())),
        pa.field("noise", pa.float64()),  # upper bound of the share of labels that an unchanged model changes
        pa.field("share", pa.float64()),  # of texts whose label is another
        pa.field("share_low", pa.float64()),
        pa.field("share_high", pa.float64()),
        pa.field("detectable", pa.float64()),
        pa.field("turns", pa.list_(pa.string())),
        pa.field("rows", pa.int32()),
        pa.field("answered", pa.float64()),  # share of the rows
        pa.field("calls", pa.int64()),
        pa.field("served", pa.list_(pa.string())),  # names that the endpoint gave its model
        pa.field("panel_asked", pa.bool_()),  # wire: the panel was read in the same run
        pa.field("panel_answered", pa.list_(pa.bool_())),  # row by row
        pa.field("panel_labels", pa.list_(pa.int32())),
        pa.field("panel_values", pa.list_(pa.float32())),  # of a wire's rows
        *STAMP,
    ]
)

DRIFT_OF_FORMER = ("study", "model", "model_ref", "pool", "panel", "baseline", "drifted", "reasons", "rows", "answered",
                   "calls", "panel_answered", "panel_values", *(field.name for field in STAMP))  # fmt: skip
"""Columns of DRIFT that every earlier version has written too."""

DRIFT_BASELINES = pa.schema(
    [
        pa.field("model", pa.string()),
        pa.field("baseline", pa.string()),
        pa.field("asking", pa.int32()),
        pa.field("row", pa.int32()),  # of the pool
        pa.field("answered", pa.bool_()),
        pa.field("values", pa.list_(pa.float32())),
        pa.field("study", pa.string()),
        pa.field("settings", pa.string()),  # JSON {setting: fingerprint of its value}
        pa.field("served", pa.list_(pa.string())),  # names that the endpoint gave its model
        pa.field("label_names", pa.list_(pa.string())),  # of the values; empty: they embed texts
        *STAMP,
    ]
)

RUNS = pa.schema(
    [
        pa.field("study", pa.string()),
        pa.field("flow", pa.string()),
        pa.field("state", pa.string()),
        pa.field("seconds", pa.float64()),
        pa.field("spaces", pa.list_(pa.string())),
        pa.field("failures", pa.string()),
        pa.field("settings", pa.string()),
        pa.field("report", pa.string()),
        *STAMP,
    ]
)
