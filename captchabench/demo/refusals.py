"""The exception for requests that are refused."""


class Refused(Exception):
    """A refused request. status: the HTTP status. The message is one line that says what to do.

    close: close the connection, because too much of the request may still be on its way.
    """

    def __init__(self, status: int, message: str, *, close: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.close = close
