"""Why a copy is refused."""


class CopyRefused(Exception):
    """The databases cannot be copied as they are; the text says what to do."""
