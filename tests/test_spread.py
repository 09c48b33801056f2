"""Names that are thinned out evenly."""

from fractions import Fraction
from math import floor

import pytest

from skood._spread import evenly


def test_steps_are_even_and_ties_go_to_the_later_name():
    assert evenly("abcde", 3) == ["a", "c", "e"]
    # Steps of 1.5: the middle is between the second and the third.
    assert evenly("abcd", 3) == ["a", "c", "d"]
    assert evenly("abcdefgh", 3) == ["a", "e", "h"]
    assert evenly("abcdef", 4) == ["a", "c", "d", "f"]


def test_one_is_the_last_and_few_are_all():
    assert evenly("abc", 1) == ["c"]
    assert evenly("abc", 2) == ["a", "c"]
    for n_names in (3, 4, 64):
        assert evenly("abc", n_names) == ["a", "b", "c"]
    assert evenly([], 24) == []


@pytest.mark.parametrize("n_names", [*range(2, 12), 24, 62, 63, 64])
def test_places_are_those_of_exact_fractions(n_names):
    for n_all in range(n_names + 1, 300):
        names = [str(number) for number in range(n_all)]
        steps = [Fraction(number * (n_all - 1), n_names - 1) for number in range(n_names)]
        assert evenly(names, n_names) == [str(floor(step + Fraction(1, 2))) for step in steps]
