from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fute.errors import MethodError, OutputsError, SurrogateError
from fute.methods.tupate.config import TupateConfig
from fute.methods.tupate.embed import Tupate
from fute.surrogate.load import Surrogate, frozen_copy
from fute.surrogate.states import token_states
from fute.surrogate.tokens import pad_batch, tokenise
from fute.types import Dataset, Floats, OutputKind, Outputs, Pool, Split, TextTable

from .tiny_surrogates import WORDS, load_tiny

QUICK: dict[str, Any] = {
    "prefix_tokens": 4,
    "epochs_dataset": 2,
    "epochs_model": 2,
    "batch_size_dataset": 8,
    "batch_size_model": 8,
}
DIM = 2 * 4 * 4 * 8  # keys and values, heads, prefix tokens, head_dim


@pytest.fixture(scope="module")
def surrogate(tmp_path_factory: pytest.TempPathFactory) -> Surrogate:
    return load_tiny("bert", tmp_path_factory.mktemp("surrogates"))


def texts_of(seed: int, n: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, length)) for length in rng.integers(2, 12, n)]


def pool_of(n: int = 40, seed: int = 0) -> Pool:
    pairs = [None if i % 4 else "the old log" for i in range(n)]
    return Pool(TextTable(texts_of(seed, n), pairs), ["made up"] * n)


def mentions(texts: Any, words: str) -> np.ndarray:
    return np.array([int(any(word in text.split() for word in words.split())) for text in texts])


def probabilities(pool: Pool, words: str = "cat dog bird fish", sureness: float = 0.9) -> Outputs:
    label = mentions(pool.inputs.texts, words)
    values = np.where(label[:, None] == np.arange(2), sureness, 1 - sureness)
    return Outputs("probabilities", values.astype(np.float32))


def dataset_of(words: str = "cat dog bird fish", n: int = 60, **changes: Any) -> Dataset:
    texts = texts_of(9, n)
    split = Split(TextTable(texts), mentions(texts, words).astype(np.int64))
    return Dataset(
        **{"id": "made-up", "task": "classification", "splits": {"train": split}, "fingerprint": "x", **changes}
    )


def shuffled_rows(dataset: Dataset, seed: int = 0) -> Dataset:
    """The same rows of every split in another order."""
    splits = {}
    for name, split in dataset.splits.items():
        order = np.random.default_rng(seed).permutation(len(split))
        splits[name] = Split(split.inputs.take(order), split.targets[order])
    return Dataset(dataset.id, dataset.task, splits, dataset.fingerprint)


def regression_of(factor: float, offset: float = 0.0) -> Dataset:
    texts = texts_of(9, 40)
    targets = np.array([len(text) * factor + offset for text in texts], dtype=np.float32)
    return dataset_of(task="regression", splits={"train": Split(TextTable(texts), targets)})


def cosine(a: Floats, b: Floats) -> float:
    return float(a.astype(np.float64) @ b / np.linalg.norm(a) / np.linalg.norm(b))


def tupate(surrogate: Surrogate, pool: Pool | None = None, seed: int = 0, **settings: Any) -> Tupate:
    return Tupate(TupateConfig(**{**QUICK, **settings}), surrogate, pool or pool_of(), seed)


def test_vectors_have_unit_length_and_the_stated_size(surrogate: Surrogate) -> None:
    method = tupate(surrogate)
    measured = {"loss_first", "loss_last", "steps", "rows", "rows_truncated", "seconds", "agreement"}
    for embedding, skipped in (
        (method.dataset(dataset_of()), set()),
        (method.model(probabilities(method.supervisor.pool)), {"rows_not_answered"}),
    ):
        assert embedding.vector.shape == (DIM,)
        assert embedding.vector.dtype == np.float32
        assert np.linalg.norm(embedding.vector) == pytest.approx(1, abs=1e-6)
        assert set(embedding.metrics) == measured | skipped


@pytest.mark.parametrize("dropout", [0.0, 0.15])
def test_the_same_seed_gives_the_same_bytes_whatever_the_global_random_state(
    surrogate: Surrogate, dropout: float
) -> None:
    first = tupate(surrogate, dropout=dropout).model(probabilities(pool_of()))
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002 (the global state is what this test is about)
    state = torch.get_rng_state()
    second = tupate(surrogate, dropout=dropout).model(probabilities(pool_of()))
    assert first.vector.tobytes() == second.vector.tobytes()
    assert torch.equal(state, torch.get_rng_state())
    other = tupate(surrogate, seed=1, dropout=dropout).model(probabilities(pool_of()))
    assert cosine(first.vector, other.vector) < 0.99


def test_dropout_changes_the_vector(surrogate: Surrogate) -> None:
    vectors = [tupate(surrogate, dropout=rate).model(probabilities(pool_of())).vector for rate in (0.0, 0.3)]
    assert cosine(*vectors) < 0.999


def test_raw_embedding_is_the_start_plus_the_change(surrogate: Surrogate) -> None:
    delta = tupate(surrogate, embedding="delta")
    raw = tupate(surrogate, embedding="raw").model(probabilities(pool_of())).vector
    start = delta._shared_start.mean(dim=0).flatten().numpy()
    change = delta.model(probabilities(pool_of())).vector
    # raw is proportional to start + c * change, so what is left of it beside those two is nothing.
    basis = np.stack([start, change], axis=1).astype(np.float64)
    rest = raw - basis @ np.linalg.lstsq(basis, raw.astype(np.float64), rcond=None)[0]
    assert np.linalg.norm(rest) < 1e-4
    assert cosine(raw, start) > 0.5 > abs(cosine(change, start))


def test_the_order_of_the_classes_has_no_influence(surrogate: Surrogate) -> None:
    method = tupate(surrogate)
    outputs = probabilities(method.supervisor.pool)
    swapped = Outputs("probabilities", outputs.values[:, ::-1].copy())
    assert cosine(method.model(outputs).vector, method.model(swapped).vector) > 0.9999


@pytest.mark.parametrize("max_rows", [1000, 20])
@pytest.mark.parametrize("task", ["classification", "regression"])
def test_the_order_of_a_datasets_rows_does_not_matter(surrogate: Surrogate, max_rows: int, task: str) -> None:
    dataset = dataset_of() if task == "classification" else regression_of(1.0)
    method = tupate(surrogate, max_rows=max_rows)
    vectors = [method.dataset(each).vector for each in (dataset, shuffled_rows(dataset), shuffled_rows(dataset, 1))]
    assert vectors[0].tobytes() == vectors[1].tobytes() == vectors[2].tobytes()


def test_one_text_with_two_labels_has_one_order(surrogate: Surrogate) -> None:
    texts = ["the cat", "the cat", "a dog", "a dog", "red bird"]
    dataset = dataset_of(splits={"train": Split(TextTable(texts), np.array([0, 1, 1, 0, 1]))})
    vectors = [tupate(surrogate).dataset(each).vector for each in (dataset, shuffled_rows(dataset))]
    assert vectors[0].tobytes() == vectors[1].tobytes()


def test_rows_without_an_answer_are_not_used(surrogate: Surrogate) -> None:
    method = tupate(surrogate)
    outputs = probabilities(method.supervisor.pool)
    answered = np.arange(len(method.supervisor.pool)) % 3 != 0
    vectors = []
    for filler in (0.0, 0.5):
        values = outputs.values.copy()
        values[~answered] = filler
        vectors.append(method.model(Outputs("probabilities", values, answered=answered)))
    assert vectors[0].vector.tobytes() == vectors[1].vector.tobytes()
    assert vectors[0].metrics["rows"] == answered.sum()


def test_a_sample_is_shared_by_models_that_left_different_rows_out(surrogate: Surrogate) -> None:
    method = tupate(surrogate, max_rows=20)
    everything = np.arange(40)
    full = method.supervisor._sample(everything, 40)
    without_last = method.supervisor._sample(everything[:-1], 40)
    assert len(full) == len(without_last) == 20
    assert len(np.intersect1d(full, without_last)) >= 19
    assert method.model(probabilities(method.supervisor.pool)).metrics["rows"] == 20


@pytest.mark.parametrize("kind", ["scores", "embeddings"])
def test_scores_are_learned_whatever_their_sign_scale_and_offset(surrogate: Surrogate, kind: OutputKind) -> None:
    method = tupate(surrogate)
    lengths = np.array([len(text) for text in method.supervisor.pool.inputs.texts], dtype=np.float32)
    scores = np.stack([lengths, np.ones_like(lengths)], axis=1)  # the second column says nothing
    first = method.model(Outputs(kind, scores))
    second = method.model(Outputs(kind, scores * -40 + 7))
    assert cosine(first.vector, second.vector) > 0.999
    assert "agreement" not in first.metrics
    assert first.metrics["loss_first"] == pytest.approx(1, abs=0.3)


def test_a_regression_dataset_does_not_depend_on_its_unit(surrogate: Surrogate) -> None:
    method = tupate(surrogate)
    first, second = (method.dataset(regression_of(*unit)) for unit in ((1.0, 0.0), (0.01, 300.0)))
    assert cosine(first.vector, second.vector) > 0.999


@pytest.mark.slow
def test_the_loss_falls_and_the_task_is_learned(surrogate: Surrogate) -> None:
    dataset = dataset_of()
    metrics = tupate(surrogate, epochs_dataset=20, learning_rate_dataset=3e-2).dataset(dataset).metrics
    majority = np.bincount(dataset.train.targets).max() / len(dataset.train)
    assert metrics["loss_last"] < 0.7 * metrics["loss_first"]
    assert metrics["agreement"] > majority + 0.1


@pytest.mark.slow
def test_a_dataset_is_nearest_to_the_model_of_its_own_task(surrogate: Surrogate) -> None:
    method = tupate(surrogate, pool_of(80), epochs_dataset=6, epochs_model=5)
    tasks = ["cat dog bird fish", "big small", "red blue"]
    models = np.stack([method.model(probabilities(method.supervisor.pool, task)).vector for task in tasks])
    datasets = np.stack([method.dataset(dataset_of(task, n=80)).vector for task in tasks])
    models, datasets = models - models.mean(axis=0), datasets - datasets.mean(axis=0)
    similarity = [[cosine(d, m) for m in models] for d in datasets]
    assert np.argmax(similarity, axis=1).tolist() == [0, 1, 2]


def test_fewer_rows_than_one_batch_still_train(surrogate: Surrogate) -> None:
    embedding = tupate(surrogate, batch_size_dataset=64, epochs_dataset=3).dataset(dataset_of(n=6))
    assert embedding.metrics["steps"] == 3
    assert np.isfinite(embedding.vector).all()


def test_long_inputs_are_cut_to_the_shorter_of_both_limits(surrogate: Surrogate) -> None:
    cut, whole = (tupate(surrogate, max_tokens=limit) for limit in (6, 64))
    assert cut.supervisor.pool_tokens().lengths.max() == 6
    assert cut.model(probabilities(pool_of())).metrics["rows_truncated"] > 20
    assert whole.model(probabilities(pool_of())).metrics["rows_truncated"] == 0


def test_nothing_of_a_methods_settings_is_left_on_the_surrogate(tmp_path: Path) -> None:
    surrogate = load_tiny("bert", tmp_path)
    before = surrogate.model.config._attn_implementation
    method = tupate(surrogate)
    expected = method.model(probabilities(pool_of())).vector
    tupate(surrogate, checkpointing=True, kernel="eager")
    assert surrogate.model.config._attn_implementation == before
    assert not any(module.training for module in surrogate.model.modules())
    assert not any(getattr(module, "gradient_checkpointing", False) for module in surrogate.model.modules())
    for again in (method, tupate(surrogate)):
        assert again.model(probabilities(pool_of())).vector.tobytes() == expected.tobytes()


@pytest.mark.parametrize("kind", ["bert", "gpt2", "t5"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_frozen_copy_says_the_same_and_holds_no_weight_twice(tmp_path: Path, kind: str, dtype: str) -> None:
    surrogate = load_tiny(kind, tmp_path, whole=True, dtype=dtype)
    copied = frozen_copy(surrogate)
    tokens = tokenise(surrogate, pool_of(8).inputs)
    batch = pad_batch(surrogate, tokens, np.arange(8))
    with torch.no_grad():
        assert torch.equal(token_states(copied, batch), token_states(surrogate, batch))
    pairs = list(zip(surrogate.model.named_parameters(), copied.model.parameters(), strict=True))
    own = {name for (name, p), q in pairs if p is not q}
    matrices = {name for (name, p), q in pairs if p.ndim == 2 and "embed" not in name and "wte" not in name
                and "wpe" not in name and "relative" not in name and name != "shared.weight"}  # fmt: skip
    assert all(p.dtype == torch.float32 for (_, p), _ in pairs)
    assert own >= matrices if dtype == "bfloat16" else not own
    assert all(q.dtype == torch.bfloat16 for (_, p), q in pairs if p is not q)


@pytest.mark.slow
def test_threads_share_one_surrogate_and_one_method(surrogate: Surrogate) -> None:
    method = tupate(surrogate)
    subjects = [probabilities(method.supervisor.pool, words) for words in ("cat dog", "big small", "red blue", "ran")]
    alone = [method.model(outputs).vector for outputs in subjects]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda outputs: method.model(outputs).vector, subjects))
    for a, b in zip(alone, together, strict=True):
        assert cosine(a, b) > 0.9999


def test_a_surrogate_outside_the_registry_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SurrogateError, match="'mpnet' models takes no prefix"):
        tupate(load_tiny("mpnet", tmp_path))


@pytest.mark.parametrize("kind", ["roberta", "distilbert", "modernbert"])
def test_other_encoders_of_the_family_work(tmp_path: Path, kind: str) -> None:
    embedding = tupate(load_tiny(kind, tmp_path)).model(probabilities(pool_of()))
    assert embedding.vector.shape == (DIM,)


def test_a_diverging_loss_is_an_error(surrogate: Surrogate) -> None:
    with pytest.raises(MethodError, match=r"the loss became .* lower it"):
        tupate(surrogate, learning_rate_model=1e30, warmup=0.0).model(probabilities(pool_of()))


def test_labels_that_cannot_be_learned_are_refused(surrogate: Surrogate) -> None:
    method = tupate(surrogate)
    with pytest.raises(MethodError, match="all 60 rows have class 0"):
        method.dataset(dataset_of(words=""))
    with pytest.raises(MethodError, match="class ids 0 to 1 for 1 classes"):
        method.dataset(dataset_of(label_names=("only",)))
    with pytest.raises(MethodError, match="one value only in all 40 rows"):
        method.dataset(regression_of(0.0))
    with pytest.raises(MethodError, match="one value only in all 40 rows"):
        method.dataset(regression_of(1e-9, 300.0))  # what differs is rounding
    with pytest.raises(OutputsError, match="39 rows of outputs for 40 inputs"):
        method.model(probabilities(pool_of(39)))


def test_a_model_that_is_constant_on_the_sample_is_refused(surrogate: Surrogate) -> None:
    method = tupate(surrogate, max_rows=2)
    values = np.tile(np.array([[0.5, 0.5]], dtype=np.float32), (40, 1))
    used = method.supervisor.pool_order[method.supervisor.usual_rows]
    values[next(i for i in range(40) if i not in used)] = [0.9, 0.1]
    with pytest.raises(MethodError, match="the same answer for all 2 rows used; raise max_rows"):
        method.model(Outputs("probabilities", values))


def test_outputs_that_are_no_distributions_are_refused(surrogate: Surrogate) -> None:
    method = tupate(surrogate)
    for value, message in ((np.nan, "1 of 40 rows hold NaN"), (0.7, "1 rows do not sum to one"), (-0.4, "below zero")):
        values = probabilities(pool_of()).values.copy()
        values[3, 0] = value
        with pytest.raises(OutputsError, match=message):
            method.model(Outputs("probabilities", values))


def test_one_batch_of_rows_in_one_pass_makes_two_steps(surrogate: Surrogate) -> None:
    """The head starts at zero, so the first step moves no prefix."""
    embedding = tupate(surrogate, epochs_model=1, batch_size_model=64).model(probabilities(pool_of()))
    assert embedding.metrics["steps"] == 2
