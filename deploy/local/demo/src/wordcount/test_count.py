"""What the word counter promises."""

import unittest

from .count import count_words


class CountWords(unittest.TestCase):
    """Of whole texts."""

    def test_an_empty_text_has_no_words(self) -> None:
        self.assertEqual(count_words(""), [])

    def test_upper_and_lower_case_are_one_word(self) -> None:
        self.assertEqual(count_words("Go, go!"), [("go", 2)])

    def test_frequent_words_come_first_then_the_alphabet(self) -> None:
        self.assertEqual(count_words("b a c b"), [("b", 2), ("a", 1), ("c", 1)])

    def test_words_of_other_alphabets_count(self) -> None:
        self.assertEqual(count_words("Straße, straße; été"), [("straße", 2), ("été", 1)])


if __name__ == "__main__":
    unittest.main()
