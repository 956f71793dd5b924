"""Requests that are not answered, and why."""


class Refused(Exception):
    """A request that cannot be answered. `status` is HTTP's; the message is one line that says what to do.

    close: end the connection, for more of the request may come than is worth reading.
    """

    def __init__(self, status: int, message: str, *, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.close = close
