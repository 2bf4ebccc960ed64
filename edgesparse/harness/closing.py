"""Things that are closed: by hand, or where their `with` block ends."""

from __future__ import annotations

import abc
from types import TracebackType
from typing import TypeVar

_Self = TypeVar("_Self", bound="Closing")


class Closing(abc.ABC):
    """Has a `close`, which the end of a `with` block calls."""

    @abc.abstractmethod
    def close(self) -> None:
        """Give everything back; closing twice is fine."""

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
