"""Labels as class ids, and case folding."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from string import ascii_lowercase, digits

from captchabench.errors import InputError

# More than any dataset here has, and than classes can be told apart. What a reading takes grows with it.
MOST_SYMBOLS = 512
# What classes are written as, one each. None has another case: folding leaves such labels as they are.
_OF_CLASSES = ascii_lowercase + digits + "".join(map(chr, range(0x2801, 0x2900)))


@dataclass(frozen=True)
class Alphabet:
    """The symbols a dataset's labels are written in, in class order: the i-th symbol has class id i.

    Raises InputError where a symbol stands twice, or there is none or more than MOST_SYMBOLS.
    """

    symbols: str
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.symbols:
            raise InputError("an alphabet needs at least one symbol")
        if len(self.symbols) > MOST_SYMBOLS:
            raise InputError(f"an alphabet has at most {MOST_SYMBOLS} symbols, not {len(self.symbols):,}")
        ids = {symbol: index for index, symbol in enumerate(self.symbols)}
        if len(ids) != len(self.symbols):
            twice = sorted({s for s in self.symbols if self.symbols.count(s) > 1})
            raise InputError(f"an alphabet names each symbol once; twice here: {''.join(twice)}")
        object.__setattr__(self, "_ids", ids)

    def __len__(self) -> int:
        return len(self.symbols)

    def __contains__(self, symbol: str) -> bool:
        return symbol in self._ids

    def foreign(self, label: str) -> list[str]:
        """The symbols of `label` that are not in the alphabet, in order of appearance."""
        return [symbol for symbol in label if symbol not in self._ids]

    def encode(self, label: str) -> list[int]:
        """Class ids of `label`. Raises KeyError for a symbol outside the alphabet."""
        return [self._ids[symbol] for symbol in label]

    def decode(self, ids: Iterable[int]) -> str:
        """The label that the class `ids` spell."""
        return "".join(self.symbols[i] for i in ids)


def merge(alphabets: Sequence[Alphabet]) -> Alphabet:
    """The union of several alphabets, in code point order."""
    symbols: set[str] = reduce(lambda seen, a: seen | set(a.symbols), alphabets, set())
    return Alphabet("".join(sorted(symbols)))


def fold_case(label: str) -> str:
    """`label` with case differences removed, for case-insensitive comparison."""
    return label.casefold()


def class_alphabet(count: int) -> Alphabet:
    """One symbol for each of `count` classes. Raises InputError where there are more classes than symbols."""
    if count > len(_OF_CLASSES):
        raise InputError(f"{count:,} classes, more than the {len(_OF_CLASSES)} that can be told apart; merge some")
    return Alphabet(_OF_CLASSES[:count])


def named(text: str, alphabet: Alphabet, class_names: Sequence[str]) -> str:
    """`text` for people: as it stands, or, where its symbols stand for classes, their names with commas between."""
    return ", ".join(class_names[i] for i in alphabet.encode(text)) if class_names else text
