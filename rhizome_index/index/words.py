"""The words of a text: what `words(path)` stands for in an index or a condition.

An index root must be a pure function of records, and so must this: it uses no
locale, and of Unicode version 14 only. What that version does not know as a
letter, a mark or a number separates words, whatever a newer one says; and what it
knows, normalisation and case folding treat alike in every later version, by
Unicode's stability policies.

1. Characters that are no word characters become spaces.
2. NFKC, case folding, NFKC again; what came up that is no word character separates too.
3. Words are the longest runs; but each ideograph, and each letter of a script that
   is written without spaces, is a word by itself.
4. Of a word only the first 64 characters count.

Source: Unicode 14.0.0, UnicodeData.txt: general categories L, M and N.
"""

from __future__ import annotations

import re
from functools import lru_cache
from unicodedata import normalize

from rhizome_index.limits import WORD_LETTERS_MAX

_ASCII_WORDS = re.compile("[a-z0-9]+")
# Thai, Lao, Myanmar, Khmer, Hiragana, and ideographs.
_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003134f"
)


def words_of(text: str) -> list[str]:
    """The distinct words of a text, in order."""
    if text.isascii():
        found = _ASCII_WORDS.findall(text.lower())
    else:
        others, words = _patterns()
        folded = normalize("NFKC", normalize("NFKC", others.sub(" ", text)).casefold())
        found = words.findall(folded)
    return sorted({word[:WORD_LETTERS_MAX] for word in found})


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """What separates words, and what is one."""
    characters = "".join(f"{re.escape(low)}-{re.escape(high)}" for low, high in word_ranges())
    one = f"[{_SPACELESS}]"
    return re.compile(f"[^{characters}]+"), re.compile(f"(?={one})[{characters}]|(?:(?!{one})[{characters}])+")


def word_ranges() -> list[tuple[str, str]]:
    """The word characters, as ranges of first and last ones."""
    from importlib.resources import files  # takes a while, and few indexes are of words

    table = files("rhizome_index.index").joinpath("word-characters.txt").read_text(encoding="ascii")
    ends = [line.split() for line in table.splitlines() if not line.startswith("#")]
    return [(chr(int(first, 16)), chr(int(last, 16))) for first, last in ends]
