"""What cannot be written into a live file is an error of the store."""

from __future__ import annotations

import pytest

from fute.errors import StoreError
from fute.llm.types import Answer, ChatRequest, Message
from storage.live_responses import NO_BILL, LiveFile, row_of


@pytest.mark.parametrize("answer", [Answer("half a character \ud800"), Answer("x", tokens_in=10**20)])
def test_an_answer_that_cannot_be_kept_is_an_error_of_the_store(tmp_path, answer):
    file = LiveFile.create(tmp_path)
    request = ChatRequest("service", "http://h/v1", "m", (Message("user", "x"),))
    with pytest.raises(StoreError, match="cannot be kept as it is"):
        file.put(row_of(request, answer, NO_BILL))
    file.put(row_of(request, Answer("good"), NO_BILL))
    assert file.get(request.key) == Answer("good")
    file.close()
