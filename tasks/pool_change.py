"""Whether a study is about to leave the pool of its last run, why, and what that costs: told before it happens."""

from __future__ import annotations

from collections.abc import Sequence

from fute.data.duplicates import normalised
from fute.data.pool import EvaluatedTexts
from fute.did_you_mean import listed
from fute.errors import FuteError
from fute.types import Dataset, Pool
from storage.store import Store

LAST = """
    SELECT s.pool FROM (SELECT unnest(spaces) AS space, created_at FROM runs WHERE study = $study) r
    JOIN spaces s USING (space) ORDER BY r.created_at DESC LIMIT 1
"""


def pool_change(study: str, store: Store, pool: Pool, datasets: Sequence[Dataset]) -> str | None:
    """What to say of a pool that the store does not have yet; None where the study has had no other.

    Args:
        datasets: those whose texts the pool leaves out.
    """
    if store.pool_path(pool.id).is_file() or not (store.root / "runs").is_dir():
        return None
    from storage.catalog import query  # slow to import, and asked only of a new pool

    try:
        last = query(store.root, LAST, {"study": study}).rows
        # The same one: its file is gone or torn, and it is about to be made anew.
        if not last or last[0][0] == pool.id:
            return None
        before = store.pool(last[0][0])
    except FuteError:  # what is damaged is said where it is needed
        return None
    forms = normalised(before.inputs)
    found = {d.id: int(EvaluatedTexts.of([d]).matches(before.inputs, forms)[1].sum()) for d in datasets}
    hold = [f"{name} holds {count} of its {len(before)} texts" for name, count in found.items() if count]
    why = f"because {listed(hold)}" if hold else "because its sources, their files or its settings are others"
    asked = len({path.name for path in store.outputs_path(before.id, "any").parent.glob("*.parquet")})
    return (
        f"the pool is not that of the last run ({before.id}), {why}. In the new one ({pool.id}) all models are asked "
        f"again ({asked} have answered the old one), and nothing that is embedded there compares with what was "
        f"embedded before. To keep the old one: pool: {{reuse: {before.id}}}"
    )
