"""Deadlines for receiving requests and for reading answers, and a limit on the size of headers.

Middleware would be too late: it is called after the headers.
"""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEADER_BYTES = 64 * 1024


class DeadlineProtocol(HttpToolsProtocol):
    """Closes a connection if its request takes longer than `read_seconds` to arrive.

    Also if headers and path exceed 64 KB, or if the client reads nothing of an answer for `read_seconds`.
    """

    read_seconds = 10.0
    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _in_headers = True

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        if self._in_headers:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._in_headers and self._header_bytes > MOST_HEADER_BYTES:
            self.transport.abort()
        elif self._timer is None and not self._is_answering and not self.transport.is_closing():
            self._wait()  # bytes outside a request, or the first ones of the next

    def on_message_begin(self) -> None:
        self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_headers = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._arrived()
        self._in_headers, self._header_bytes = True, 0
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._was_read()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()  # closes when the rest has been read
        if self._unread is None and self.transport.get_write_buffer_size():
            self._watch_reading(self.transport.get_write_buffer_size())

    def connection_lost(self, exc: Exception | None) -> None:
        self._arrived()
        self._was_read()
        super().connection_lost(exc)

    @property
    def _is_answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._arrived()
        self._timer = self.loop.call_later(self.read_seconds, self._expired)

    def _arrived(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch_reading(self, left: int) -> None:
        """Check again after `read_seconds`, and abort if the client has read none of the `left` bytes."""
        self._unread = self.loop.call_later(self.read_seconds, self._look, left)

    def _look(self, before: int) -> None:
        left = self.transport.get_write_buffer_size()
        self._unread = None
        if left and left >= before:
            self.transport.abort()
        elif left:
            self._watch_reading(left)

    def _was_read(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _expired(self) -> None:
        self._timer = None
        if not self.transport.is_closing():
            self.transport.abort()
