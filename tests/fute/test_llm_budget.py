"""Budgets and rate limits, with made-up clocks and inner layers: nothing here waits for anything real."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fute.config import BudgetConfig, EndpointConfig
from fute.errors import ModelError, StoreError
from fute.llm.budget import Account, Budget, BudgetExhausted, MemoryAccount, Refusal, Spending, cost_usd
from fute.llm.cache import Cache, MemoryLedger
from fute.llm.client import connect
from fute.llm.estimate import likely_tokens, most_tokens_in
from fute.llm.failures import TransientError
from fute.llm.fan_out import fan_out
from fute.llm.limits import LocalPace, Paced
from fute.llm.retry import Retry
from fute.llm.types import Answer, ChatRequest, Message
from storage.budgets import StoredAccount
from tests import llm_server
from tests.llm_server import LlmServer, by_first_word

ENDPOINT = EndpointConfig(
    id="e", base_url="http://127.0.0.1:9/v1", model="m", usd_per_million_tokens_in=1.0, usd_per_million_tokens_out=10.0
)


def ask(text: str = "good", max_tokens: int = 8) -> ChatRequest:
    return ChatRequest("service", "http://nowhere", "m", (Message("user", text),), max_tokens=max_tokens)


class Counting:
    """Answers with given tokens and counts; raises what it is told to first."""

    def __init__(self, tokens_in: int | None = 5, tokens_out: int | None = 1, failures: list[Exception] | None = None):
        self.tokens_in, self.tokens_out = tokens_in, tokens_out
        self.failures = failures or []
        self.calls = 0
        self.in_flight = 0
        self.lock = threading.Lock()

    def complete(self, request: ChatRequest) -> Answer:
        with self.lock:
            self.calls += 1
            if self.failures:
                raise self.failures.pop(0)
        return Answer("good", tokens_in=self.tokens_in, tokens_out=self.tokens_out)


@pytest.fixture(params=["memory", "stored"])
def account_of(request: pytest.FixtureRequest, tmp_path: Path):
    def make(**limits: float) -> Account:
        config = BudgetConfig(**limits)
        return MemoryAccount("the run", config) if request.param == "memory" else stored(tmp_path, config)

    return make


def stored(folder: Path, config: BudgetConfig, run: str = "run-1") -> StoredAccount:
    return StoredAccount(folder, run, "the run", config)


# --------------------------------------------------------------------------------------------------------------- budget


def test_calls_stop_at_the_limit_and_the_message_says_how_to_go_on(account_of):
    inner = Counting()
    budget = Budget(inner, ENDPOINT, [account_of(max_calls=3)])
    for _ in range(3):
        budget.complete(ask())
    with pytest.raises(BudgetExhausted, match=r"budget of the run.*3 of 3 calls.*same command again.*raise max_calls"):
        budget.complete(ask())
    assert inner.calls == 3


def test_no_concurrency_passes_a_limit(account_of):
    inner = Counting()
    budget = Budget(inner, ENDPOINT, [account_of(max_calls=25)])

    def one(_: int) -> bool:
        try:
            budget.complete(ask())
        except BudgetExhausted:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        answered = list(pool.map(one, range(80)))
    assert inner.calls == sum(answered) == 25


def test_tokens_are_reserved_at_the_most_and_settled_at_what_they_were(account_of):
    account = account_of(max_tokens=100)
    budget = Budget(Counting(tokens_in=5, tokens_out=1), ENDPOINT, [account])
    most = most_tokens_in(ask()) + 8  # 4 bytes, 8 for the message, 8 for the answer
    assert most == 20
    for done in range(1, 15):
        budget.complete(ask())
        assert account.taken() == Spending(done, 6 * done, pytest.approx(done * 15e-6))
    with pytest.raises(BudgetExhausted, match=r"84 of 100 tokens.*up to 20"):  # 84 + 20 could be too much
        budget.complete(ask())
    assert account.taken().tokens <= 100


def test_dollars_are_reckoned_with_the_endpoints_prices(account_of):
    budget = Budget(Counting(tokens_in=5, tokens_out=1), ENDPOINT, [account_of(max_usd=1e-4)])
    budget.complete(ask())  # 5 + 10 millionths of a dollar; at most 12 + 80
    with pytest.raises(BudgetExhausted, match=r"\$0\.0000 of \$0\.0001 are spent.*up to \$0\.0001.*max_usd"):
        budget.complete(ask())
    assert cost_usd(ENDPOINT, 1_000_000, 100_000) == pytest.approx(2.0)
    assert cost_usd(ENDPOINT, None, 3) is None
    assert cost_usd(ENDPOINT.model_copy(update={"usd_per_million_tokens_in": None}), 5, 3) is None


def test_an_answer_without_a_count_costs_what_was_reserved_for_it(account_of):
    account = account_of(max_tokens=50)
    Budget(Counting(tokens_in=None), ENDPOINT, [account]).complete(ask())
    assert account.taken().tokens == 20


def test_an_attempt_that_may_have_been_charged_counts_and_a_refused_one_does_not(account_of):
    account = account_of(max_calls=10)
    failures = [TransientError("HTTP 429", may_be_charged=False), TransientError("no answer within 5 s")]
    inner = Counting(failures=failures)
    Retry(Budget(inner, ENDPOINT, [account]), sleep=lambda seconds: None).complete(ask())
    assert inner.calls == 3
    assert account.taken().calls == 2


def test_a_request_has_to_fit_into_every_budget_and_takes_from_none_if_it_does_not(account_of):
    large, small = MemoryAccount("the run", BudgetConfig(max_calls=9)), account_of(max_calls=1)
    budget = Budget(Counting(), ENDPOINT, [large, small])
    budget.complete(ask())
    with pytest.raises(BudgetExhausted):
        budget.complete(ask())
    assert (large.taken().calls, large.in_flight) == (1, 0)


def test_a_request_waits_for_those_in_flight_to_leave_it_enough():
    """Two of 20 reserved tokens each fit into 30 only one after the other."""
    account = MemoryAccount("the run", BudgetConfig(max_tokens=30))
    begun, go_on = threading.Event(), threading.Event()

    class Held:
        def complete(self, request: ChatRequest) -> Answer:
            begun.set()
            assert go_on.wait(20)
            return Answer("good", tokens_in=5, tokens_out=1)

    budget = Budget(Held(), ENDPOINT, [account])
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(budget.complete, ask())
        assert begun.wait(20)
        second = pool.submit(budget.complete, ask())
        assert account.taken().tokens == 20
        go_on.set()
        assert first.result(20).text == second.result(20).text == "good"
    assert account.taken() == Spending(2, 12, pytest.approx(30e-6))


def test_workers_share_an_account_and_runs_do_not(tmp_path):
    limits = BudgetConfig(max_calls=2)
    assert stored(tmp_path, limits).reserve(Spending(1)) is None
    assert stored(tmp_path, limits).reserve(Spending(1)) is None
    refusal = stored(tmp_path, limits).reserve(Spending(1))
    assert refusal == Refusal(0, Spending(), Spending(2))  # what others hold is nothing to wait for
    with pytest.raises(BudgetExhausted, match=r"0 of 2 calls are made, 2 are held for calls of other processes"):
        Budget(Counting(), ENDPOINT, [stored(tmp_path, limits)]).complete(ask())
    assert stored(tmp_path, limits, run="run-2").reserve(Spending(1)) is None


@pytest.mark.parametrize("seed", range(5))
def test_workers_of_an_account_never_pass_it_and_agree_with_one_plain_account_in_the_end(tmp_path, seed: int):
    rng = random.Random(seed)
    limits = BudgetConfig(max_calls=200, max_tokens=4_000, max_usd=20.0)
    workers = [stored(tmp_path, limits) for _ in range(3)]
    plain = MemoryAccount("the run", limits)  # told what really happened, at once
    flying: list[tuple[StoredAccount, Spending]] = []
    refused = 0
    for _ in range(900):
        if rng.random() < 0.55:
            worker, most = rng.choice(workers), Spending(1, rng.randint(1, 60), rng.random() / 4)
            if worker.reserve(most) is None:
                assert plain.reserve(most) is None  # what the file allows is within the limits in truth
                flying.append((worker, most))
            else:
                refused += 1
        elif flying:
            worker, most = flying.pop(rng.randrange(len(flying)))
            spent = Spending(rng.randint(0, 1), rng.randint(0, most.tokens), most.usd * rng.random())
            for account in (worker, plain):
                account.settle(most, spent)
            assert worker.in_flight == sum(w is worker for w, _ in flying)
            assert worker.spent().calls <= plain.spent().calls
            # What one worker sees as taken is the truth, or more: others' requests at their most.
            assert worker.taken().tokens >= plain.taken().tokens
    for worker, most in flying:
        for account in (worker, plain):
            account.settle(most, Spending(1, most.tokens, most.usd))
    assert refused > 10
    fresh = stored(tmp_path, limits)  # nobody has anything in flight, so all is in the file
    assert fresh.taken() == fresh.spent()
    assert (fresh.spent().calls, fresh.spent().tokens) == (plain.spent().calls, plain.spent().tokens)
    assert fresh.spent().usd == pytest.approx(plain.spent().usd)


def test_two_workers_use_up_exactly_what_the_run_needs(tmp_path):
    limits = BudgetConfig(max_calls=120)
    inner = Counting()

    def worker(_: int) -> BaseException | None:
        budget = Budget(inner, ENDPOINT, [stored(tmp_path, limits)])
        return fan_out(range(60), lambda _: budget.complete(ask()), 8)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(worker, range(2))) == [None, None]
    assert inner.calls == 120
    assert stored(tmp_path, limits).taken() == Spending(120, 720, pytest.approx(120 * 15e-6))


def test_a_request_that_cost_more_than_was_held_for_it_stops_the_next_at_once(tmp_path):
    limits = BudgetConfig(max_tokens=100)
    one, other = stored(tmp_path, limits), stored(tmp_path, limits)
    for _ in range(3):
        assert one.reserve(Spending(1, 20)) is None
    one.settle(Spending(1, 20), Spending(1, 70))  # the endpoint counts otherwise
    assert other.taken() == Spending(3, 110)
    assert other.reserve(Spending(1, 1)) is not None
    assert one.reserve(Spending(1, 1)) is not None


def test_a_worker_that_dies_leaves_too_much_taken_rather_than_too_little(tmp_path):
    limits = BudgetConfig(max_calls=4)
    one, other = stored(tmp_path, limits), stored(tmp_path, limits)
    for _ in range(2):
        assert one.reserve(Spending(1, 10)) is None
    one.settle(Spending(1, 10), Spending(1, 3))
    del one  # killed, with one request in flight
    assert other.taken() == Spending(2, 13)  # that one at most
    for _ in range(2):
        assert other.reserve(Spending(1, 10)) is None
    assert other.reserve(Spending(1, 10)) is not None


def test_a_child_that_was_forked_while_others_reserved_has_a_lock_and_nothing_in_flight_of_its_own(tmp_path):
    account = stored(tmp_path, BudgetConfig(max_calls=10))
    assert account.reserve(Spending(1, 5)) is None
    with account._lock:  # as another thread of the parent may hold it at that moment
        child = os.fork()
        if child == 0:
            signal.alarm(20)  # ends a child that waits for ever
            refused = account.reserve(Spending(1, 5))
            os._exit(0 if refused is None and account.in_flight == 1 else 1)
        _, status = os.waitpid(child, 0)
    assert status == 0
    assert (account.in_flight, account.taken().calls) == (1, 2)


def test_many_threads_use_a_budget_up_before_any_gives_up(account_of):
    """Each reservation is many times the call's cost, so that most of the time the money is reserved and not spent."""
    account = account_of(max_usd=0.2)
    inner = Counting(tokens_in=100, tokens_out=90)  # $0.001 a call; a reservation is $0.02 or so
    budget = Budget(inner, ENDPOINT, [account])
    together = threading.Barrier(64)

    def work(number: int) -> None:
        if number < 64:
            together.wait(60)
        budget.complete(ask(max_tokens=2000))

    failure = fan_out(range(1000), work, 64)
    assert isinstance(failure, BudgetExhausted)
    most = cost_usd(ENDPOINT, most_tokens_in(ask()), 2000)
    assert 0.2 - most < account.spent().usd <= 0.2
    assert account.taken() == account.spent()
    assert f"{account.spent().usd:.4f} of $0.2 are spent" in str(failure)


class Unwritable(MemoryAccount):
    def settle(self, reserved: Spending, spent: Spending) -> None:
        raise StoreError("disk full")


@pytest.mark.parametrize("broken_first", [True, False])
def test_an_answer_survives_an_account_that_cannot_be_written(broken_first: bool):
    broken, whole = Unwritable("the run", BudgetConfig(max_calls=9)), MemoryAccount("e", BudgetConfig(max_calls=9))
    ledger, inner = MemoryLedger(), Counting()
    client = Cache(Budget(inner, ENDPOINT, [broken, whole] if broken_first else [whole, broken]), ledger)
    assert client.complete(ask()).text == "good"
    assert len(ledger) == 1
    assert (whole.spent().calls, whole.in_flight) == (1, 0)
    with pytest.raises(StoreError, match="budget of the run could not be written .disk full.*same command again"):
        client.complete(ask("another"))
    assert inner.calls == 1


def test_a_damaged_budget_file_is_an_error_of_ours_and_nobody_waits_for_what_it_held(tmp_path):
    account = stored(tmp_path, BudgetConfig(max_calls=9))
    assert account.reserve(Spending(1)) is None
    with sqlite3.connect(tmp_path / "budgets.sqlite") as db:
        db.execute("DROP TABLE spending")
    with pytest.raises(StoreError, match=r"budgets\.sqlite: the budget of the run cannot be read or written"):
        account.settle(Spending(1), Spending(1))
    assert account.in_flight == 0
    with pytest.raises(StoreError, match="cannot be read or written"):
        account.reserve(Spending(1))


@pytest.mark.parametrize(
    ("fault", "charged"),
    [
        (llm_server.too_many_requests("0"), False),
        (llm_server.status(400), False),
        (llm_server.status(503, {"Retry-After": "0"}), False),
        (llm_server.status(503), True),
        (llm_server.status(408), True),
        (llm_server.status(500), True),
        (llm_server.status(502), True),
        (llm_server.status(504), True),
        (llm_server.status(524), True),
        (llm_server.web_page(), True),
        (llm_server.broken_json(), True),
        (llm_server.text_instead(b" " * 5_000_000), True),
    ],
)
def test_what_the_model_may_have_worked_for_counts(fault, charged: bool):
    account = MemoryAccount("the run", BudgetConfig(max_calls=3))
    with LlmServer(by_first_word) as server:
        server.misbehave(fault)
        endpoint = EndpointConfig(id="e", base_url=server.base_url, model="m", service="charged", max_attempts=1)
        with pytest.raises(ModelError):
            connect(endpoint, ledger=MemoryLedger(), accounts=[account]).complete(ask())
    assert account.taken().calls == int(charged)


# ---------------------------------------------------------------------------------------------------------- rate limits


def paced(requests: int | None, tokens: int | None, sizes: list[int]) -> list[float]:
    """When requests of these sizes go out, in seconds, if all come at once."""
    now = [0.0]
    sent: list[float] = []
    pace = LocalPace(requests, tokens, clock=lambda: 0.0, sleep=lambda seconds: now.__setitem__(0, seconds))
    for size in sizes:
        now[0] = 0.0
        pace(size)
        sent.append(now[0])
    return sent


def test_requests_a_minute_are_evenly_spaced():
    assert paced(120, None, [50] * 4) == [0.0, 0.5, 1.0, 1.5]


def test_tokens_a_minute_make_the_next_request_wait_for_the_last_ones_share():
    assert paced(None, 6000, [100, 300, 100]) == [0.0, 1.0, 4.0]


def test_whichever_limit_is_tighter_decides():
    assert paced(60, 6000, [10, 300, 10]) == [0.0, 1.0, 4.0]


def test_a_pause_earns_no_burst():
    clock = [0.0]
    waits: list[float] = []
    pace = LocalPace(60, None, clock=lambda: clock[0], sleep=waits.append)
    pace(1)
    clock[0] = 100.0
    for _ in range(3):
        pace(1)
    assert waits == [1.0, 2.0]


def test_every_attempt_is_paced():
    told: list[int] = []
    inner = Counting(failures=[TransientError("busy")] * 2)
    Retry(Paced(inner, told.append), sleep=lambda seconds: None).complete(ask())
    assert told == [likely_tokens(ask())] * 3


# ---------------------------------------------------------------------------------------------------- all of the layers


def test_the_layers_together_ask_once_within_budget_and_pace():
    told: list[int] = []
    account = MemoryAccount("the run", BudgetConfig(max_calls=3))
    with LlmServer(by_first_word) as server:
        server.misbehave(llm_server.too_many_requests("0"))
        endpoint = EndpointConfig(id="e", base_url=server.base_url, model="m", service="layers")
        client = connect(endpoint, ledger=MemoryLedger(), pace=told.append, accounts=[account])
        for text in ("one", "one", "two", "three"):
            client.complete(ask(text))
        with pytest.raises(ModelError, match="budget of the run is used up"):
            client.complete(ask("four"))
        assert client.complete(ask("two")).from_cache  # what is kept costs nothing
        assert server.n_requests == 4  # three answers, and the refused one
    assert len(told) == 4


def test_above_temperature_0_only_a_sample_that_is_named_is_kept_for_the_next():
    inner = Counting()
    ledger = MemoryLedger()
    cache = Cache(inner, ledger)
    warm = ChatRequest("service", "http://nowhere", "m", (Message("user", "good"),), temperature=0.7)
    assert not cache.complete(warm).from_cache
    assert not cache.complete(warm).from_cache
    assert len(ledger) == 2  # both are written down
    named = ChatRequest("service", "http://nowhere", "m", (Message("user", "good"),), temperature=0.7, sample=0)
    assert not cache.complete(named).from_cache
    assert cache.complete(named).from_cache
    assert inner.calls == 3
