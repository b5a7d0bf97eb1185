"""Counts the words of a text, most frequent first."""

import re
import sys
from collections import Counter


def count_words(text: str) -> list[tuple[str, int]]:
    """Each word in lower case with its count; equal counts in alphabetical order."""
    counts = Counter(word.lower() for word in re.findall(r"[^\W\d_]+", text))
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def main() -> None:
    """Prints the ten most frequent words of the files named on the command line."""
    if len(sys.argv) < 2:
        sys.exit("usage: wordcount FILE...")
    text = ""
    for path in sys.argv[1:]:
        with open(path, encoding="utf-8") as file:
            text += file.read() + "\n"
    for word, count in count_words(text)[:10]:
        print(f"{count:6} {word}")


if __name__ == "__main__":
    main()
