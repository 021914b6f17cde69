"""Counts and lists as parts of a sentence."""

from collections.abc import Iterable


def counted(count: int, what: str) -> str:
    """Write a number and a noun, in the plural unless the number is 1.

    Example:
        >>> counted(1, 'image'), counted(1200, 'category'), counted(2, 'batch')
        ('1 image', '1,200 categories', '2 batches')
    """
    if count != 1:
        if what.endswith('y'):
            what = what[:-1] + 'ies'
        else:
            what += 'es' if what.endswith(('s', 'x', 'tch')) else 's'
    return f'{count:,} {what}'


def share(count: int, total: int, what: str, verb: str) -> str:
    """Write a clause about some of all things.

    Args:
        count (int): Number of things that the clause is about.
        total (int): Number of all things.
        what (str): Noun in the singular.
        verb (str): Verb in the singular, and the rest of the clause.

    Example:
        >>> share(1, 16, 'image', 'has no mask')
        '1 of 16 images has no mask'
        >>> share(2, 16, 'image', 'lies outside')
        '2 of 16 images lie outside'
    """
    if count != 1:
        first, space, rest = verb.partition(' ')
        irregular = {'is': 'are', 'has': 'have', 'does': 'do'}
        verb = irregular.get(first, first.removesuffix('s')) + space + rest
    return f'{count:,} of {counted(total, what)} {verb}'


def listed(names: Iterable[object], most: int = 12) -> str:
    """Write a list of names; shorten it after ``most`` names.

    Example:
        >>> listed(['cat', 'dog', 'cup'])
        "'cat', 'dog' and 'cup'"
        >>> listed(['cat', 'dog', 'cup'], most=1)
        "'cat' and 2 more"
    """
    every = [repr(name) for name in names]
    shown = every[:most]
    if len(every) > most:
        shown.append(f'{len(every) - most:,} more')
    *others, last = shown or ['none']
    return f'{", ".join(others)} and {last}' if others else last
