from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fute.config import SurrogateConfig
from fute.errors import FuteError, MethodError, OutputsError
from fute.methods.taskemb.config import PAPER, TaskembConfig
from fute.methods.taskemb.embed import Taskemb
from fute.space import open_space, space_id
from fute.spans import pack_spans
from fute.surrogate.load import Surrogate, load_surrogate
from fute.types import Dataset, OutputKind, Outputs, Pool, Split, TaskEmbedding, TextTable

from . import test_tupate
from .test_tupate import cosine, mentions, probabilities, regression_of, texts_of
from .tiny_surrogates import load_tiny, save_tiny

QUICK: dict[str, Any] = {
    "epochs_dataset": 2, "epochs_model": 2, "batch_size": 8, "fisher_batch_size": 8, "dim": 256,
    "learning_rate": 1e-3, "learning_rate_spans": 1e-3, "head_learning_rate": 1e-2,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("surrogates")
    for kind in ("bert", "gpt2", "t5"):
        save_tiny(kind, folder / kind)
    return folder


@pytest.fixture(scope="module")
def surrogate(folder: Path) -> Surrogate:
    return load(folder, "bert")


def load(folder: Path, kind: str, **settings: Any) -> Surrogate:
    return load_surrogate(SurrogateConfig(model=kind, max_tokens=24, device="cpu", **settings), folder, whole=True)


def pool_of(n: int = 30) -> Pool:
    return test_tupate.pool_of(n)


def dataset_of(words: str = "cat dog bird fish", n: int = 30, **changes: Any) -> Dataset:
    return test_tupate.dataset_of(words, n, **changes)


def questions(n: int = 20) -> tuple[TextTable, np.ndarray]:
    """Where in a context the asked word stands: (n, 2) characters."""
    contexts = texts_of(4, n)
    words = [context.split()[-1] for context in contexts]
    ends = np.array([len(context) for context in contexts])
    return TextTable(words, contexts), np.stack([ends - [len(w) for w in words], ends], axis=1)


def taskemb(surrogate: Surrogate, pool: Pool | None = None, seed: int = 0, **settings: Any) -> Taskemb:
    return Taskemb(TaskembConfig(**{**QUICK, **settings}), surrogate, pool or pool_of(), seed)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
def test_all_families_embed_datasets_and_models_and_the_surrogate_stays_as_it_was(kind: str, folder: Path) -> None:
    surrogate = load(folder, kind)
    before = copy.deepcopy(surrogate.model.state_dict())
    method = taskemb(surrogate)
    embeddings = [method.dataset(dataset_of()), method.model(probabilities(pool_of()))]
    again = method.dataset(dataset_of())
    for embedding in embeddings:
        assert embedding.vector.shape == (256,)
        assert embedding.vector.dtype == np.float32
        assert np.linalg.norm(embedding.vector) == pytest.approx(1, abs=1e-6)
        assert {"loss_first", "loss_last", "steps", "rows", "agreement", "seconds"} <= set(embedding.metrics)
    # Whatever was embedded before: every subject starts from the pretrained weights.
    assert again.vector.tobytes() == embeddings[0].vector.tobytes()
    assert all(torch.equal(before[name], value) for name, value in surrogate.model.state_dict().items())
    assert not any(p.requires_grad for p in surrogate.model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
def test_answer_spans_are_learned_from_datasets_and_models(kind: str, folder: Path) -> None:
    table, spans = questions()
    method = taskemb(load(folder, kind), Pool(table, ["made up"] * len(table)))
    dataset = dataset_of(task="span_qa", splits={"train": Split(table, spans)})
    outputs = Outputs("spans", pack_spans(spans[:, :1], spans[:, 1:], np.ones((len(table), 1))))
    vectors = [method.dataset(dataset).vector, method.model(outputs).vector]
    # The same questions with the same certain answers are the same task, whoever gave them.
    assert cosine(*vectors) > 0.9999


@pytest.mark.parametrize("dropout", [False, True])
def test_the_same_seed_gives_the_same_bytes_whatever_the_global_random_state(
    surrogate: Surrogate, dropout: bool
) -> None:
    settings = {"dropout": dropout, "head_deviation": 0.02, "fisher_rows": 20}
    first = taskemb(surrogate, **settings).model(probabilities(pool_of())).vector
    torch.manual_seed(123)
    state = torch.get_rng_state()
    second = taskemb(surrogate, **settings).model(probabilities(pool_of())).vector
    assert first.tobytes() == second.tobytes()
    assert torch.equal(state, torch.get_rng_state())
    other = taskemb(surrogate, seed=1, **settings).model(probabilities(pool_of())).vector
    assert cosine(first, other) < 0.9


def test_dropout_changes_the_vector_and_is_off_while_the_information_is_measured(surrogate: Surrogate) -> None:
    methods = [taskemb(surrogate, dropout=dropout) for dropout in (False, True)]
    vectors = [method.model(probabilities(pool_of())).vector for method in methods]
    assert cosine(*vectors) < 0.9999
    assert not any(module.training for method in methods for module in method._tuned.model.modules())


@pytest.mark.slow
def test_fine_tuning_equals_adamw_written_out_in_float64(folder: Path) -> None:
    surrogate = load(folder, "bert")
    surrogate.model.double()
    method = taskemb(surrogate, batch_size=64, warmup=0.25)
    supervision = method._supervisor.model(probabilities(pool_of()))
    names = method.coverage.used
    head, _ = method._fine_tune(supervision, epochs=4)

    model = copy.deepcopy(surrogate.model)
    named = dict(model.named_parameters())
    parameters = [*(named[name] for name in names), torch.zeros(2, 32).double(), torch.zeros(2).double()]
    rates = [*[1e-3] * len(names), 1e-2, 1e-2]
    means = [torch.zeros_like(p) for p in parameters]
    squares = [torch.zeros_like(p) for p in parameters]
    for step, factor in enumerate([1 / 2, 1, 2 / 3, 1 / 3], start=1):
        for parameter in parameters:
            parameter.requires_grad_(True)
        loss = torch.zeros((), dtype=torch.float64)
        for ids, types, wanted in zip(
            supervision.tokens.ids, supervision.tokens.type_ids or [], supervision.targets.values, strict=True
        ):
            states = model(input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([types])).last_hidden_state[0]
            answers = (parameters[-2] @ states.mean(dim=0) + parameters[-1]).log_softmax(dim=0)
            loss = loss - sum(float(w) * a for w, a in zip(wanted, answers, strict=True)) / len(supervision)
        gradients = torch.autograd.grad(loss, parameters)
        length = sum(float((g**2).sum()) for g in gradients) ** 0.5
        with torch.no_grad():
            for i, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
                clipped = gradient / max(1.0, length)
                means[i] = 0.9 * means[i] + 0.1 * clipped
                squares[i] = 0.999 * squares[i] + 0.001 * clipped**2
                mean, square = means[i] / (1 - 0.9**step), squares[i] / (1 - 0.999**step)
                parameter.requires_grad_(False).sub_(rates[i] * factor * mean / (square.sqrt() + 1e-8))
    tuned = dict(method._tuned.model.named_parameters())
    expected, measured, start = (
        torch.cat([p[name].detach().flatten() for name in names])
        for p in (named, tuned, dict(surrogate.model.named_parameters()))
    )
    # In float32 keys' biases would go anywhere: Adam divides by a gradient's own size, and theirs is rounding.
    off = torch.linalg.vector_norm(measured - expected) / torch.linalg.vector_norm(expected - start)
    assert off < 1e-5
    off = torch.linalg.vector_norm(head.weight.detach() - parameters[-2]) / torch.linalg.vector_norm(parameters[-2])
    assert off < 1e-5


@pytest.mark.slow
def test_the_order_of_the_classes_matters_to_a_random_head_only(surrogate: Surrogate) -> None:
    outputs = probabilities(pool_of())
    swapped = Outputs("probabilities", outputs.values[:, ::-1].copy())
    zero, random = (taskemb(surrogate, head_deviation=deviation) for deviation in (0.0, 0.02))
    assert cosine(zero.model(outputs).vector, zero.model(swapped).vector) > 0.99999
    assert cosine(random.model(outputs).vector, random.model(swapped).vector) < 0.99


@pytest.mark.parametrize("estimator", ["per_example", "batch"])
@pytest.mark.parametrize("max_rows", [1000, 12])
def test_the_order_of_a_datasets_rows_does_not_matter(surrogate: Surrogate, estimator: str, max_rows: int) -> None:
    method = taskemb(surrogate, estimator=estimator, max_rows=max_rows)
    dataset = dataset_of()
    order = np.random.default_rng(0).permutation(len(dataset.train))
    shuffled = Split(dataset.train.inputs.take(order), dataset.train.targets[order])
    vectors = [method.dataset(d).vector for d in (dataset, dataset_of(splits={"train": shuffled}))]
    assert vectors[0].tobytes() == vectors[1].tobytes()


@pytest.mark.parametrize(
    "settings", [{"max_rows": 12}, {"fisher_rows": 10}, {"estimator": "batch", "dropout": True, "max_rows": 20}]
)
def test_the_order_of_the_pools_rows_does_not_matter(surrogate: Surrogate, settings: dict[str, Any]) -> None:
    pool = pool_of()
    pool = Pool(pool.inputs.take([*range(30), 3]), [*pool.source_ids, "another"])  # one text from two sources
    label = mentions(pool.inputs.texts, "cat dog bird fish")
    label[30] = 1 - label[30]  # and answered otherwise
    outputs = Outputs("labels", np.eye(2, dtype=np.float32)[label], answered=np.arange(31) % 5 != 0)
    order = np.random.default_rng(0).permutation(31)
    shuffled = Pool(pool.inputs.take(order), [pool.source_ids[row] for row in order])
    first = taskemb(surrogate, pool, **settings).model(outputs).vector
    second = taskemb(surrogate, shuffled, **settings).model(outputs.take(order)).vector
    assert first.tobytes() == second.tobytes()
    apart = taskemb(surrogate, shuffled, **settings).model(outputs).vector
    assert cosine(first, apart) < 1 - 1e-4  # the answers came along with their rows


@pytest.mark.slow
def test_batches_of_the_measurement_do_not_matter(surrogate: Surrogate) -> None:
    vectors = [taskemb(surrogate, fisher_batch_size=n).dataset(dataset_of()).vector for n in (1, 7, 64)]
    assert cosine(vectors[0], vectors[1]) > 1 - 1e-6
    assert cosine(vectors[0], vectors[2]) > 1 - 1e-6


@pytest.mark.slow
def test_rows_without_an_answer_are_not_used(surrogate: Surrogate) -> None:
    method = taskemb(surrogate)
    outputs = probabilities(method._supervisor.pool)
    answered = np.arange(30) % 3 != 0
    vectors = []
    for filler in (0.0, 0.5):
        values = outputs.values.copy()
        values[~answered] = filler
        vectors.append(method.model(Outputs("probabilities", values, answered=answered)))
    assert vectors[0].vector.tobytes() == vectors[1].vector.tobytes()
    assert vectors[0].metrics["rows"] == answered.sum()
    assert vectors[0].metrics["rows_not_answered"] == 10


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scores", "embeddings"])
def test_scores_are_learned_whatever_their_scale_and_offset(surrogate: Surrogate, kind: OutputKind) -> None:
    method = taskemb(surrogate)
    lengths = np.array([len(text) for text in method._supervisor.pool.inputs.texts], dtype=np.float32)[:, None]
    first, second = (method.model(Outputs(kind, values)) for values in (lengths, lengths * 40 + 7))
    assert cosine(first.vector, second.vector) > 0.999


def test_a_regression_dataset_does_not_depend_on_its_unit(surrogate: Surrogate) -> None:
    method = taskemb(surrogate)
    first, second = (method.dataset(regression_of(*unit)) for unit in ((1.0, 0.0), (0.01, 300.0)))
    assert cosine(first.vector, second.vector) > 0.999


def test_the_task_is_learned(surrogate: Surrogate) -> None:
    dataset = dataset_of()
    metrics = taskemb(surrogate, epochs_dataset=12).dataset(dataset).metrics
    majority = np.bincount(dataset.train.targets).max() / len(dataset.train)
    assert metrics["loss_last"] < 0.7 * metrics["loss_first"]
    assert metrics["agreement"] > majority + 0.1


def test_fewer_rows_than_one_batch_still_train(surrogate: Surrogate) -> None:
    embedding = taskemb(surrogate, batch_size=64, epochs_dataset=3).dataset(dataset_of(n=6))
    assert embedding.metrics["steps"] == 3
    assert np.isfinite(embedding.vector).all()


def test_one_batch_in_one_pass_still_moves_the_weights(surrogate: Surrogate) -> None:
    """The head starts at zero, so the first step moves the head alone."""
    method = taskemb(surrogate, batch_size=64, epochs_dataset=1)
    assert method.dataset(dataset_of(n=20)).metrics["steps"] == 2
    before = dict(surrogate.model.named_parameters())
    moved = [name for name, p in method._tuned.model.named_parameters() if not torch.equal(p, before[name])]
    assert set(moved) == set(method.coverage.used)


def test_without_a_rate_of_its_own_the_head_trains_at_the_surrogates(surrogate: Surrogate) -> None:
    table, spans = questions()
    asked = dataset_of(task="span_qa", splits={"train": Split(table, spans)})
    settings: dict[str, Any] = {"learning_rate": 1e-3, "learning_rate_spans": 3e-3}
    own = taskemb(surrogate, **settings, head_learning_rate=None)
    for dataset, rate in ((dataset_of(), 1e-3), (asked, 3e-3)):
        same = taskemb(surrogate, **settings, head_learning_rate=rate)
        assert own.dataset(dataset).vector.tobytes() == same.dataset(dataset).vector.tobytes()
    assert TaskembConfig.model_validate({"preset": "paper"}).head_learning_rate is None


def test_a_subject_that_does_not_fit_into_memory_harms_no_other(
    surrogate: Surrogate, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = taskemb(surrogate)
    subjects = [probabilities(pool_of(), words) for words in ("cat dog", "big small", "red blue")]
    expected = [method.model(outputs).vector.tobytes() for outputs in subjects]
    information, calls = method._information, []

    def too_large(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("out of memory")
        return information(*given)

    monkeypatch.setattr(method, "_information", too_large)
    first, failed, last = method.models(subjects)
    assert isinstance(failed, MethodError)
    assert "does not fit into memory; lower batch_size, fisher_batch_size" in str(failed)
    assert failed.__context__ is None  # its frames would keep what filled the memory
    assert isinstance(first, TaskEmbedding)
    assert isinstance(last, TaskEmbedding)
    assert [first.vector.tobytes(), last.vector.tobytes()] == [expected[0], expected[2]]


@pytest.mark.parametrize(
    "settings",
    [
        {"estimator": "batch"}, {"estimator": "mean"}, {"scale": "raw"}, {"balance": True}, {"fisher_rows": 5},
        {"loss": "binary_cross_entropy"}, {"pooling": "token"}, {"batch_size": 9}, {"warmup": 0.5}, {"max_tokens": 5},
        {"max_rows": 20}, {"epochs_dataset": 3}, {"learning_rate": 2e-3}, {"head_learning_rate": 2e-2},
    ],
)  # fmt: skip
def test_every_setting_changes_the_vector(surrogate: Surrogate, settings: dict[str, Any]) -> None:
    """What each does is checked against slow versions, above and in test_taskemb_whole."""
    plain, changed = (taskemb(surrogate, **each).dataset(dataset_of()).vector for each in ({}, settings))
    assert np.linalg.norm(changed) == pytest.approx(1, abs=1e-6)
    assert cosine(plain, changed) < 1 - 1e-4


def test_prompted_models_get_inputs_of_their_own_length(surrogate: Surrogate) -> None:
    plain = probabilities(pool_of())
    asked = Outputs(plain.kind, plain.values, details={"calls": 30})
    short, long, both = (
        taskemb(surrogate, **limits)
        for limits in ({"max_tokens": 4}, {"max_tokens": 9}, {"max_tokens": 4, "max_tokens_llm": 9})
    )
    assert both.model(plain).vector.tobytes() == short.model(plain).vector.tobytes()
    assert both.model(asked).vector.tobytes() == long.model(plain).vector.tobytes()
    assert short.model(asked).vector.tobytes() == short.model(plain).vector.tobytes()
    assert cosine(short.model(plain).vector, long.model(plain).vector) < 1 - 1e-4
    assert both.config.identity() != short.config.identity()


def test_models_are_embedded_one_by_one_and_each_failure_is_its_own(surrogate: Surrogate) -> None:
    method = taskemb(surrogate)
    good = probabilities(pool_of())
    constant = Outputs("probabilities", np.full((30, 2), 0.5, dtype=np.float32))
    first, failed, second = method.models([good, constant, good])
    assert isinstance(failed, OutputsError)
    assert isinstance(failed, FuteError)
    assert isinstance(first, TaskEmbedding)
    assert isinstance(second, TaskEmbedding)
    assert first.vector.tobytes() == second.vector.tobytes() == method.model(good).vector.tobytes()


def test_threads_take_turns_with_the_one_copy(surrogate: Surrogate) -> None:
    method = taskemb(surrogate)
    subjects = [probabilities(pool_of(), words) for words in ("cat dog", "big small", "red blue")]
    alone = [method.model(outputs).vector.tobytes() for outputs in subjects]
    with ThreadPoolExecutor(3) as threads:
        together = list(threads.map(lambda outputs: method.model(outputs).vector.tobytes(), subjects))
    assert alone == together


def test_bfloat16_gives_nearly_the_same_vector(surrogate: Surrogate, folder: Path) -> None:
    exact = taskemb(surrogate).model(probabilities(pool_of())).vector
    near = taskemb(load(folder, "bert", dtype="bfloat16")).model(probabilities(pool_of())).vector
    assert 0.9 < cosine(exact, near) < 1 - 1e-9


def test_a_diverging_loss_is_an_error_and_the_next_subject_is_not_harmed(surrogate: Surrogate) -> None:
    method = taskemb(surrogate)
    expected = method.dataset(dataset_of()).vector
    method.config = TaskembConfig(**{**QUICK, "learning_rate": 1e30})
    with pytest.raises(MethodError, match="fine-tuning diverged: the loss became .* lower them"):
        method.dataset(dataset_of())
    method.config = TaskembConfig(**QUICK)
    assert method.dataset(dataset_of()).vector.tobytes() == expected.tobytes()


def test_labels_that_cannot_be_learned_are_refused(surrogate: Surrogate) -> None:
    method = taskemb(surrogate)
    with pytest.raises(MethodError, match="all 30 rows have class 0"):
        method.dataset(dataset_of(words=""))
    with pytest.raises(OutputsError, match="29 rows of outputs for 30 inputs"):
        method.model(probabilities(pool_of(29)))


def test_half_a_t5_is_refused(folder: Path) -> None:
    with pytest.raises(MethodError, match="load it with whole=True"):
        taskemb(load_tiny("t5", folder))


def test_a_preset_fills_what_is_not_given_and_the_identity_holds_what_it_came_to() -> None:
    paper = TaskembConfig.model_validate({"preset": "paper", "dim": 1024})
    assert (paper.estimator, paper.dim, paper.max_tokens, paper.max_tokens_llm) == ("mean", 1024, 128, 496)
    assert TaskembConfig.model_validate({"preset": "paper", "estimator": "batch"}).estimator == "batch"
    assert paper.identity() == TaskembConfig(**{**PAPER, "dim": 1024}).identity()
    assert TaskembConfig(fisher_batch_size=5).identity() == TaskembConfig().identity()
    # Read again from the identity it is the same, so what is stored can be opened.
    assert TaskembConfig.model_validate(paper.identity()).identity() == paper.identity()


def test_a_space_of_it_opens_by_its_settings_and_is_named_by_what_can_change_a_vector(surrogate: Surrogate) -> None:
    config = TaskembConfig(**QUICK)
    embedder = open_space(config, lambda: surrogate, lambda table: np.zeros((len(table), 2), "f4"), pool_of(), seed=0)
    assert isinstance(embedder, Taskemb)
    ids = [
        space_id({}, TaskembConfig(**{**QUICK, **changes}), "pool", 0)
        for changes in ({}, {"fisher_batch_size": 3}, {"estimator": "mean"}, {"preset": "paper"})
    ]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3


def test_a_size_that_cannot_be_projected_to_is_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        TaskembConfig(dim=1001)
