"""A few threads that only call providers, while one thread keeps the books.

    submit(task) → thread: call(task) → take() → (task, answer | error)

No transaction is open while a provider is called, and no thread here writes a result: what a
crash leaves behind is calls that nobody recorded.
"""

import contextvars
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Generic, TypeVar

import structlog

from models.database import reconnect

log = structlog.get_logger()

#: While waiting for an answer, hear a time limit this often: it can't interrupt a waiting thread.
_LOOK_S = 1.0

#: A call that outlasts its page is left to end by itself, after this.
_LEAVE_AFTER_S = 10.0

Task = TypeVar("Task")
Answer = TypeVar("Answer")


class Calls(Generic[Task, Answer]):
    """A context with its threads; at most as many calls at once, answers in order of arrival."""

    def __init__(self, call: Callable[[Task], Answer], threads: int) -> None:
        self._call = call
        self._todo: SimpleQueue[Task | None] = SimpleQueue()
        self._answers: SimpleQueue[tuple[Task, Answer | BaseException]] = SimpleQueue()
        self._threads = [
            threading.Thread(
                target=contextvars.copy_context().run,
                args=(self._run,),
                name=f"call-{number}",
                daemon=True,
            )
            for number in range(threads)
        ]
        self.open = 0

    def __enter__(self) -> "Calls[Task, Answer]":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        with_hope = self._todo
        while not with_hope.empty():  # what nobody has begun
            try:
                with_hope.get_nowait()
            except Empty:
                break
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join(_LEAVE_AFTER_S)
            if thread.is_alive():
                log.warning("a provider's call does not end", thread=thread.name)

    def submit(self, task: Task) -> None:
        """Have `task` called by the next free thread."""
        self.open += 1
        self._todo.put(task)

    def take(self) -> tuple[Task, Answer | Exception]:
        """The next answer, or the error instead of it. Only while `open`."""
        while True:
            try:
                task, answer = self._answers.get(timeout=_LOOK_S)
            except Empty:
                continue
            self.open -= 1
            if isinstance(answer, BaseException) and not isinstance(answer, Exception):
                raise answer
            return task, answer

    def _run(self) -> None:
        try:
            while (task := self._todo.get()) is not None:
                answer: Answer | BaseException
                try:
                    answer = self._call(task)
                except BaseException as error:  # noqa: BLE001 - told to whoever keeps the books
                    answer = error
                self._answers.put((task, answer))
        finally:
            reconnect()  # a budget's reservation gave this thread a connection
