"""Labels as class ids, and case folding."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase, digits
from typing import Self
from unicodedata import normalize

from captchabench.errors import InputError

# More than any dataset has, and more than _CLASS_SYMBOLS. Memory and time of reading grow with the number of symbols.
MAX_SYMBOLS = 512
# One symbol per class of tiles. They are in one case only, so case folding changes no label.
_CLASS_SYMBOLS = ascii_lowercase + digits + "".join(map(chr, range(0x2801, 0x2900)))


@dataclass(frozen=True)
class Alphabet:
    """The symbols of a dataset's labels; the i-th symbol has class id i.

    Raises InputError if there is no symbol, a symbol occurs twice, or there are more than MAX_SYMBOLS.
    """

    symbols: str
    _ids: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.symbols:
            raise InputError("an alphabet needs at least one symbol")
        if len(self.symbols) > MAX_SYMBOLS:
            raise InputError(f"an alphabet has at most {MAX_SYMBOLS} symbols, not {len(self.symbols):,}")
        ids = {symbol: index for index, symbol in enumerate(self.symbols)}
        if len(ids) != len(self.symbols):
            twice = sorted({s for s in self.symbols if self.symbols.count(s) > 1})
            raise InputError(f"an alphabet names each symbol once; twice here: {''.join(twice)}")
        object.__setattr__(self, "_ids", ids)

    @classmethod
    def of(cls, labels: Iterable[str]) -> Self:
        """The symbols that occur in `labels`, in code point order."""
        return cls("".join(sorted(set().union(*labels))))

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
        """The label with these class ids. Raises IndexError for an id above the last."""
        return "".join(self.symbols[i] for i in ids)


def merge(alphabets: Sequence[Alphabet]) -> Alphabet:
    """The union of several alphabets, in code point order."""
    return Alphabet.of(alphabet.symbols for alphabet in alphabets)


def nfc(label: str) -> str:
    """`label` with letters and their accents composed (Unicode, form NFC), so that each is one symbol.

    Names of files on a Mac are decomposed.
    """
    return normalize("NFC", label)


def fold_case(label: str) -> str:
    """`label` with case differences removed, for case-insensitive comparison."""
    return label.casefold()


def class_alphabet(count: int) -> Alphabet:
    """One symbol for each of `count` classes. Raises InputError if there are more classes than symbols."""
    if count > len(_CLASS_SYMBOLS):
        raise InputError(f"{count:,} classes, more than the {len(_CLASS_SYMBOLS)} possible; merge some")
    return Alphabet(_CLASS_SYMBOLS[:count])


def display_text(text: str, alphabet: Alphabet, class_names: Sequence[str]) -> str:
    """`text` as shown to users: unchanged, or the names of the classes, with commas, if its symbols are classes.

    class_names: in the order of `alphabet`; empty if its symbols are characters.
    """
    return ", ".join(class_names[i] for i in alphabet.encode(text)) if class_names else text
