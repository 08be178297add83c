"""What a number means as a class where names of the classes are given.

It is the index of a name. But names can be numbers too, and `label_names: ["1", "0"]` says two things about a 0: its
class is called 1, being the first, and 0, being itself. What can be read in two ways is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence

from fute.did_you_mean import listed
from fute.errors import DataError

BOOLEANS = {0: "false", 1: "true"}
_WORDS = {word: number for number, word in BOOLEANS.items()}


def class_indices(
    names: Sequence[str], numbers: Collection[int], *, declared: Sequence[str] | None = None, boolean: bool = False
) -> dict[int, int] | None:
    """The index in `names` of each number that occurs; None where a number is the index itself.

    Args:
        numbers: labels that occur.
        declared: what the file itself calls the classes 0, 1, ...
        boolean: the numbers stand for false and true.

    Raises:
        DataError: numbers mean one class by their index, and another by what they are called.
    """
    if declared is not None:
        if list(declared) == list(names):
            return None
        if by_name := _by_word(names, names, dict(enumerate(declared)), numbers):
            return by_name
    if boolean and (by_name := _by_word(names, [name.casefold() for name in names], BOOLEANS, numbers)):
        return by_name
    themselves = {number: number for number in {*range(len(names)), *numbers}}
    in_range = all(0 <= number < len(names) for number in numbers)
    return _by_word(names, [spelt_number(name, names) for name in names], themselves, numbers, certain=not in_range)


def spelt_number(name: str, names: Sequence[str]) -> int | None:
    """The whole number that a name spells; true and false are 1 and 0 where these are all the names."""
    if {other.casefold() for other in names} == set(_WORDS):
        return _WORDS[name.casefold()]
    try:
        number = float(name)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None


def named_like_numbers(names: Sequence[str]) -> bool:
    """Whether one of the names is a number or boolean of another index, so that `class_indices` may say anything else
    than that a number is an index."""
    return any(
        _WORDS.get(name.casefold(), i) != i or spelt_number(name, names) not in (None, i)
        for i, name in enumerate(names)
    )


def _by_word(
    names: Sequence[str],
    keys: Sequence[Hashable],
    words: Mapping[int, Hashable],
    numbers: Collection[int],
    *,
    certain: bool = True,
) -> dict[int, int] | None:
    """Indices of the numbers by what they are called, or None if no name is called like a number of another index.

    Args:
        keys: what each name is compared by.
        words: what each number is called.
        certain: what they are called decides, wherever all numbers that occur are called like a name.
    """
    index = {key: i for i, key in enumerate(keys) if key is not None}
    moved = [number for number, word in words.items() if index.get(word, number) != number]
    if not moved:
        return None
    if certain and all(number in words and words[number] in index for number in numbers):
        return {number: index[words[number]] for number in numbers}
    one = min(moved)
    by_index = f"the class {names[one]!r}" if 0 <= one < len(names) else "no class"
    raise DataError(
        f"labels are numbers, and some of label_names ({listed(map(repr, names))}) are called like numbers of other "
        f"classes: label {one} is {by_index} by its place in them and the class {names[index[words[one]]]!r} by its "
        "name; write the labels as text, or choose names that are not labels themselves"
    )
