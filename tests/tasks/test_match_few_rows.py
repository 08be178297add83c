"""Of a model that was asked about some rows of the pool, no accuracy is made up."""

from __future__ import annotations

import numpy as np

from fute.types import Outputs, Pool, TextTable
from tasks.match import read_outs

TEXTS = [f"{'good' if i % 3 else 'poor'} thing number {i}" for i in range(60)]


def test_answers_to_few_rows_are_not_read_out_as_if_they_were_answers_to_all() -> None:
    rng = np.random.default_rng(0)
    values = rng.dirichlet([1, 1], len(TEXTS)).astype(np.float32)
    asked = np.arange(len(TEXTS)) < 50
    outputs = {
        "all": Outputs("probabilities", values),
        "few": Outputs("probabilities", values * asked[:, None], answered=asked, asked=asked),
    }
    read = read_outs(Pool(TextTable(TEXTS), ["s"] * 60), outputs, lambda table: rng.normal(size=(60, 4)).astype("f4"))
    assert set(read.found) == {"all"}
    assert set(read.outputs) == {"all", "few"}
