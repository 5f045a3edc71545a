"""What a decision tree is: questions whose answers lead to further questions, and in the end to lines of a policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dpbeam.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Where a tree ends. `lines` are YAML for the policy, whose numbers and names are to be replaced; `see` is a
    section of the docs."""

    lines: str
    because: str
    see: str


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer to a question, by the `word` that is typed for it."""

    word: str
    says: str
    then: Question | Advice


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question about the data's domain or its readers, never about the rows: none needs a look at them."""

    asks: str
    answers: tuple[Answer, ...]

    def __post_init__(self) -> None:
        words = [answer.word for answer in self.answers]
        if len(words) < 2 or len(set(words)) < len(words):
            raise ValueError(f"a question needs two different answers or more, got {words}")


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A choice: its name on the command line, what it is about, and where it begins."""

    name: str
    about: str
    start: Question

    def follow(self, words: Sequence[str]) -> Question | Advice:
        """Where these answers lead.

        Raises:
            UsageError: one isn't an answer to the question that it comes to, or comes after the end.
        """
        at: Question | Advice = self.start
        for place, word in enumerate(words, start=1):
            if isinstance(at, Advice):
                raise UsageError(
                    f"--answers has {len(words)} answers, but the choice ends after {place - 1}; leave {word!r} out"
                )
            found = [answer.then for answer in at.answers if answer.word == word]
            if not found:
                named = ", ".join(answer.word for answer in at.answers)
                raise UsageError(f"answer {place} of {self.name}, to {at.asks!r}, must be one of {named}, got {word!r}")
            at = found[0]
        return at

    def ends(self) -> Iterator[tuple[tuple[str, ...], Advice]]:
        """Each advice with the answers that lead to it, from the first answers to the last."""
        yield from _ends(self.start, ())


def _ends(at: Question | Advice, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Advice]]:
    if isinstance(at, Advice):
        yield words, at
        return
    for answer in at.answers:
        yield from _ends(answer.then, (*words, answer.word))
