from __future__ import annotations

import numpy as np
import pytest

from fute.methods.taskemb import projection
from fute.methods.taskemb.projection import NONZEROS, SparseProjection

from .test_taskemb import dataset_of, pool_of, probabilities, taskemb
from .tiny_surrogates import load_tiny


@pytest.fixture(scope="module")
def information(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, np.ndarray]]:
    """Of three tasks, each as a dataset and as a model."""
    method = taskemb(load_tiny("bert", tmp_path_factory.mktemp("surrogates")))
    found = []
    for words in ("cat dog bird fish", "big small", "red blue"):
        for supervision in (
            method._supervisor.dataset(dataset_of(words)),
            method._supervisor.model(probabilities(pool_of(), words)),
        ):
            head, _ = method._fine_tune(supervision, epochs=2)
            found.append({name: v.numpy() for name, v in method._information(head, supervision).items()})
    return found


def cosines(vectors: np.ndarray) -> np.ndarray:
    """Of all pairs of rows."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return (unit @ unit.T)[np.triu_indices(len(unit), 1)]


def tensors(seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {"table": (50, 8), "weight": (12, 8), "bias": (12,), "norm": (8,)}
    return {name: rng.gamma(0.3, size=shape) for name, shape in shapes.items()}  # a few large, many small


def project(made: SparseProjection, values: dict[str, np.ndarray]) -> np.ndarray:
    return sum((made.project(name, value) for name, value in values.items()), np.zeros(made.dim))


def test_it_equals_an_explicit_matrix() -> None:
    made = SparseProjection(64, seed=3)
    values = tensors()
    blocks = []
    for name, value in values.items():
        block = np.zeros((64, value.size))
        for column in range(value.size):
            places, signs = made.entries(name, np.array([column], dtype=np.uint64))
            for place, sign in zip(places[:, 0], signs[:, 0], strict=True):
                block[place, column] += sign / 2
        blocks.append(block)
    matrix = np.hstack(blocks)
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=0), 1)  # four different places each
    assert ((matrix != 0).sum(axis=0) == NONZEROS).all()
    expected = matrix @ np.concatenate([v.ravel() for v in values.values()])
    np.testing.assert_allclose(project(made, values), expected, rtol=1e-12, atol=1e-12)


def test_neither_pieces_nor_order_nor_shape_nor_zeros_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    made = SparseProjection(256, seed=0)
    values = tensors()
    values["table"][5:30] = 0
    whole = project(made, values)
    monkeypatch.setattr(projection, "_PIECE", 7)
    backwards = {name: values[name].ravel() for name in reversed(values)}
    np.testing.assert_allclose(project(made, backwards), whole, rtol=1e-12, atol=1e-12)


def test_seeds_and_names_give_other_matrices() -> None:
    value = np.ones(100)
    same, again, seed, name = (
        SparseProjection(64, s).project(n, value) for s, n in ((0, "a"), (0, "a"), (1, "a"), (0, "b"))
    )
    assert same.tobytes() == again.tobytes()
    assert not np.allclose(same, seed)
    assert not np.allclose(same, name)


@pytest.mark.parametrize("dim", [256, 4096, 100, 32768])
def test_all_places_are_used_evenly_and_signs_are_fair(dim: int) -> None:
    places, signs = SparseProjection(dim, 0).entries("weight", np.arange(dim * 200, dtype=np.uint64))
    counts = np.bincount(places.ravel(), minlength=dim)
    assert len(counts) == dim
    assert counts.min() > 0.6 * 200 * NONZEROS
    assert counts.max() < 1.4 * 200 * NONZEROS
    assert abs(signs.mean()) < 5 / np.sqrt(signs.size)


def test_inner_products_are_kept() -> None:
    """Over many seeds the mean is the inner product itself, and the deviation of a cosine near 1 / sqrt(dim)."""
    first, second = tensors(1), tensors(2)

    def inner(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> float:
        return float(sum((a[name] * b[name]).sum() for name in a))

    lengths = np.sqrt(inner(first, first) * inner(second, second))
    true = inner(first, second) / lengths
    found = []
    for seed in range(200):
        made = SparseProjection(512, seed)
        found.append(project(made, first) @ project(made, second) / lengths)
    deviation = np.std(found)
    assert abs(np.mean(found) - true) < 4 * deviation / np.sqrt(len(found))
    assert deviation < 1.5 / np.sqrt(512)


@pytest.mark.parametrize("scale", ["sqrt", "raw"])
@pytest.mark.parametrize("dim", [256, 1024])
def test_cosines_of_real_information_are_kept(information: list[dict[str, np.ndarray]], dim: int, scale: str) -> None:
    """Fisher information of a tiny BERT's 28,000 parameters: the cosines of all pairs, projected and not.

    A random projection turns a cosine c into one with a deviation of about (1 - c^2) / sqrt(dim) at most.
    """
    vectors = [{name: np.sqrt(v) if scale == "sqrt" else v for name, v in each.items()} for each in information]
    whole = cosines(np.stack([np.concatenate([v.ravel() for v in each.values()]) for each in vectors]))
    errors = []
    for seed in range(40):
        made = SparseProjection(dim, seed)
        errors.append(cosines(np.stack([project(made, each) for each in vectors])) - whole)
    measured = np.sqrt(np.mean(np.square(errors)))
    bound = np.sqrt(np.mean((1 - whole**2) ** 2)) / np.sqrt(dim)
    assert measured < 1.2 * bound
