"""Outputs alone: against kernels written out with loops, and what must not change a similarity."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fute.errors import MethodError, OutputsError
from fute.methods.outputs.config import OutputsConfig
from fute.methods.outputs.embed import OutputsAlone, _mixed
from fute.types import Dataset, Outputs, Pool, Split, TextTable

pytestmark = pytest.mark.kernels

N = 30


def opened(sources: list[str], **settings: Any) -> OutputsAlone:
    pool = Pool(TextTable([f"row {i}" for i in range(len(sources))]), sources)
    return OutputsAlone(OutputsConfig(ridge=1e-9, **settings), pool)


def said(seed: int, classes: int = 3, n: int = N) -> Outputs:
    rng = np.random.default_rng(seed)
    return Outputs("probabilities", rng.dirichlet(np.ones(classes), n).astype(np.float32))


def cosine(embedder: OutputsAlone, a: Outputs, b: Outputs) -> float:
    return float(embedder.model(a).vector @ embedder.model(b).vector)


def slow_kernel(values: np.ndarray, sources: list[str]) -> np.ndarray:
    """Whitened outputs, their products, and each source's own block U-centred by its formula, entry by entry."""
    y = values.astype(float)
    for s in set(sources):
        of = [i for i, each in enumerate(sources) if each == s]
        y[of] -= y[of].mean(axis=0)
    u = y @ np.linalg.pinv(np.cov(y.T, bias=True), rcond=1e-6, hermitian=True) @ y.T
    k = u.copy()
    for s in set(sources):
        of = [i for i, each in enumerate(sources) if each == s]
        m = len(of)
        off = [[0.0 if i == j else u[i, j] for j in of] for i in of]
        total = sum(map(sum, off))
        for a, i in enumerate(of):
            for b, j in enumerate(of):
                k[i, j] = off[a][b] - (sum(off[a]) + sum(off[b])) / (m - 2) + total / ((m - 1) * (m - 2))
    np.fill_diagonal(k, 0.0)
    return k


@pytest.mark.parametrize("sources", [["a"] * N, ["a"] * 12 + ["b"] * 18], ids=["one source", "two"])
def test_a_cosine_is_that_of_debiased_kernels(sources: list[str]) -> None:
    one, other = said(0), said(1, classes=4)
    a, b = slow_kernel(one.values, sources), slow_kernel(other.values, sources)
    slow = (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())
    assert cosine(opened(sources), one, other) == pytest.approx(slow, abs=1e-5)


def test_with_one_source_it_is_the_unbiased_estimate_of_hsic() -> None:
    """Song et al. 2012, equation 5, of the whitened outputs."""

    def hsic(k: np.ndarray, other: np.ndarray) -> float:
        k, other = k * ~np.eye(N, dtype=bool), other * ~np.eye(N, dtype=bool)
        once = k.sum() * other.sum() / ((N - 1) * (N - 2))
        return float(np.trace(k @ other) + once - 2 * k.sum(axis=0) @ other.sum(axis=1) / (N - 2))

    def kernel(outputs: Outputs) -> np.ndarray:
        y = outputs.values - outputs.values.mean(axis=0, dtype=float)
        left, strength, _ = np.linalg.svd(y, full_matrices=False)
        left = left[:, strength > 1e-4 * strength[0]]
        return np.asarray(left @ left.T)

    one, other = said(2, classes=2), said(3, classes=5)
    k, both = kernel(one), kernel(other)
    slow = hsic(k, both) / np.sqrt(hsic(k, k) * hsic(both, both))
    assert cosine(opened(["a"] * N), one, other) == pytest.approx(slow, abs=1e-5)


def test_outputs_that_were_shuffled_within_sources_are_alike_by_nothing_on_average() -> None:
    sources = ["a"] * 8 + ["b"] * 9 + ["c"] * 13
    embedder, one, other = opened(sources), said(4, classes=6), said(5, classes=6)
    found, rng, of = [], np.random.default_rng(0), np.array(sources)
    for _ in range(800):
        order = np.arange(N)
        for s in "abc":
            order[of == s] = rng.permutation(order[of == s])
        found.append(cosine(embedder, one, replace(other, values=other.values[order])))
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found))
    assert np.std(found) > 0.01


def test_names_numbers_and_scales_of_the_columns_change_nothing() -> None:
    embedder, model = opened(["a"] * N), said(6)
    turned = replace(model, values=model.values[:, [2, 0, 1]])
    mixed = np.random.default_rng(1).normal(size=(3, 3)).astype(np.float32)
    scored = Outputs("scores", 1e4 * model.values @ mixed - 7)
    assert cosine(embedder, model, turned) == pytest.approx(1, abs=1e-5)
    assert cosine(embedder, model, scored) == pytest.approx(1, abs=1e-3)


def test_units_of_several_numbers_change_nothing() -> None:
    pool = Pool(TextTable([f"row {i}" for i in range(N)]), ["a"] * N)
    embedder = OutputsAlone(OutputsConfig(), pool)
    metres = np.random.default_rng(3).normal(size=(N, 3)).astype(np.float32)
    mixed = metres * np.array([1e6, 1.0, 1e-3], np.float32)
    assert cosine(embedder, Outputs("scores", metres), Outputs("scores", mixed)) == pytest.approx(1, abs=1e-5)


def test_a_sketch_is_off_by_no_more_than_its_standard_deviation_says() -> None:
    n, dim = 200, 4096
    sources = [str(i % 3) for i in range(n)]
    exact, sketched = opened(sources, dim=2**18), opened(sources, dim=dim)
    models = [said(seed, classes=2 + seed % 4, n=n) for seed in range(12)]
    models += [replace(m, values=(0.7 * m.values + 0.3 * o.values)) for m, o in zip(models, models[4:], strict=False)]
    whole, short = (np.stack([e.model(m).vector for m in models]) for e in (exact, sketched))
    assert (whole.shape[1], short.shape[1]) == (n * (n - 1) // 2, dim)
    np.testing.assert_allclose(np.linalg.norm(short, axis=1), 1, atol=1e-5)
    cosines, apart = whole @ whole.T, np.triu_indices(len(models), 1)
    errors = (short @ short.T - cosines)[apart] / np.sqrt((1 + cosines[apart] ** 2) / dim)
    assert 0.5 < errors.std() < 1.2
    assert abs(errors).max() < 5


def test_the_sketch_is_the_same_in_every_run() -> None:
    first, again = (opened(["a"] * 60, dim=1024).model(said(7, n=60)).vector for _ in range(2))
    assert first.tobytes() == again.tobytes()
    # The first outputs of SplitMix64 with seed 0, as published with it.
    increments = np.array([0, 0x9E3779B97F4A7C15], np.uint64)
    assert [hex(x) for x in _mixed(increments)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4"]


def test_blocks_of_the_kernel_are_one_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    sources, model = ["a"] * 20 + ["b"] * 40, said(8, n=60)
    for dim in (1024, 4096):
        whole = opened(sources, dim=dim).model(model).vector
        monkeypatch.setattr("fute.methods.outputs.embed.BLOCK", 7)
        np.testing.assert_allclose(opened(sources, dim=dim).model(model).vector, whole, atol=1e-6)
        monkeypatch.undo()


def test_rows_without_an_answer_do_not_count() -> None:
    model = said(9)
    answered = np.arange(N) % 20 != 0
    blank = replace(model, values=np.where(answered[:, None], model.values, 0), answered=answered)
    junk = replace(blank, values=np.where(answered[:, None], model.values, 9))
    embedder = opened(["a"] * N)
    assert cosine(embedder, blank, junk) == pytest.approx(1, abs=1e-6)
    assert 0.5 < cosine(embedder, blank, model) < 0.99


def test_few_answers_are_refused_for_they_would_tell_which_rows_these_are() -> None:
    model, answered = said(9), np.arange(N) % 5 != 0
    with pytest.raises(MethodError, match="it answered 24 of the pool's 30 rows, and method outputs needs 90%"):
        opened(["a"] * N).model(replace(model, answered=answered))
    with pytest.raises(MethodError, match="24 of the pool's 30 rows"):
        opened(["a"] * N).model(replace(model, answered=answered, asked=answered))


def test_a_task_of_the_pools_own_is_its_labels_of_pool_rows() -> None:
    labels = np.random.default_rng(2).integers(0, 3, 20)
    texts = [f"row {i}" for i in range(5, 25)] + ["another row"]
    dataset = Dataset(
        "d", "classification", {"train": Split(TextTable(texts), np.array([*labels, 1]))}, "f", ("a", "b", "c")
    )
    embedder = opened(["a"] * N)
    same = embedder._embedding(np.arange(5, 25), np.eye(3)[labels]).vector
    np.testing.assert_allclose(embedder.dataset(dataset).vector, same, atol=1e-6)


def test_a_dataset_of_other_rows_is_refused_with_what_to_do() -> None:
    split = Split(TextTable([f"other {i}" for i in range(20)]), np.arange(20) % 2)
    with pytest.raises(MethodError, match=r"0 of the pool's 30 rows, and 16 are needed; crosscov reads"):
        opened(["a"] * N).dataset(Dataset("d", "classification", {"train": split}, "f"))


def test_answer_spans_are_told_by_where_they_stand() -> None:
    contexts = ["abcdefghij" * 3] * N
    pool = Pool(TextTable([f"question {i}" for i in range(N)], contexts), ["a"] * N)
    embedder = OutputsAlone(OutputsConfig(), pool)
    starts = np.arange(N) % 20
    first, later = (
        Outputs("spans", np.column_stack([s, s + 3, np.ones(N)]).astype(np.float32)) for s in (starts, starts[::-1])
    )
    assert cosine(embedder, first, first) == pytest.approx(1, abs=1e-5)
    assert cosine(embedder, first, later) < 0.9


def test_what_says_nothing_is_refused() -> None:
    with pytest.raises(OutputsError, match="constant model"):
        opened(["a"] * N).model(Outputs("scores", np.ones((N, 1), np.float32)))
    by_source = np.repeat([[0.2], [0.8]], 15, axis=0).astype(np.float32)
    with pytest.raises(MethodError, match="the same for all rows of a source"):
        opened(["a"] * 15 + ["b"] * 15).model(Outputs("scores", by_source))
