"""What came of a world, in either tier."""

from dataclasses import dataclass

from sim_book import Book


@dataclass(frozen=True)
class Story:
    """In a few words."""

    state: str
    reason: str
    rounds: list[tuple[str, ...]]
    messages: int
    seconds: float
    lives: int

    @classmethod
    def of(cls, book: Book, messages: int, seconds: float, lives: int) -> "Story":
        ended = book.ended
        assert ended is not None
        return cls(ended.state, ended.reason, list(book.published()), messages, seconds, lives)
