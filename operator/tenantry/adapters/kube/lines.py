"""Lines out of a stream of pieces, whatever their length: aiohttp's own line reader gives up at 64 KiB."""

from __future__ import annotations


class LineTooLongError(ValueError):
    """A line is longer than the limit."""


class LineSplitter:
    """Collects pieces and gives out whole lines, each byte copied at most twice.

    Args:
        limit: Bytes that a line may have.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0

    @property
    def pending(self) -> bool:
        """Whether a line was begun and not ended."""
        return self._size > 0

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that this piece ends, without their line breaks and without empty ones.

        Raises:
            LineTooLongError: as soon as an unfinished line is over the limit.
        """
        *ended, rest = piece.split(b"\n")
        if ended:
            ended[0] = b"".join([*self._pieces, ended[0]])
            self._pieces.clear()
            self._size = 0
        if rest:
            self._pieces.append(rest)
            self._size += len(rest)
        if self._size > self._limit or any(len(line) > self._limit for line in ended):
            raise LineTooLongError(f"a line is longer than {self._limit} bytes")
        return [line for line in ended if line.strip()]
