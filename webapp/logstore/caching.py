"""Answers that are remembered for a moment, for what many people ask again and again."""

import time
from collections.abc import Callable
from threading import Condition
from typing import Any, Concatenate, Final, ParamSpec, TypeVar, cast

from cachetools import TTLCache, cached

from webapp.logstore.reader import LogReader

P = ParamSpec("P")
Answer = TypeVar("Answer")

# Longer, and a prediction could be missing from its user's list for all to see.
CACHE_SECONDS: Final = 2.0
_MOST_ANSWERS: Final = 64


class RecentAnswers:
    """Answer the same question from memory for up to two seconds.

    Whoever asks what is just being answered waits for that answer.
    """

    def __init__(self, reader: LogReader, *, clock: Callable[[], float] = time.monotonic) -> None:
        def put(question: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
            return question(reader, *args, **kwargs)

        answers: TTLCache[Any, Any] = TTLCache(_MOST_ANSWERS, CACHE_SECONDS, clock)
        self._put = cached(answers, condition=Condition())(put)

    def ask(
        self,
        question: Callable[Concatenate[LogReader, P], Answer],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> Answer:
        """Put a question to the log, or remember what it answered a moment ago."""
        return cast(Answer, self._put(question, *args, **kwargs))
