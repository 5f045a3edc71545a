"""The sentence on risk: its tone follows from ε, and its figures are those of the worst case."""

from __future__ import annotations

import pytest

from dpbeam.reporting.risk import odds_factor, risk, risk_of_all, tone_of

ONE = "a certain <bdi>author_id</bdi> is in the data"


@pytest.mark.parametrize(
    ("epsilon", "sentence"),
    [
        (
            1.0,
            f"Somebody who gave it even odds (50 %) that {ONE} can be led by this release to a belief of about 73 % at "
            "most, whatever else they know (but for that extra probability).",
        ),
        (
            3.0,
            f"This is a moderate guarantee: in the worst case somebody who gave it even odds (50 %) that {ONE} is led "
            "by this release to a belief of about 95 %, whatever else they know (but for that extra probability). That "
            "is a good guess, and no certainty.",
        ),
        (
            8.0,
            f"This is a weak guarantee: in the worst case somebody who gave it even odds (50 %) that {ONE} is led by "
            "this release to a belief of about 99.97 %, which is close to certainty. Attacks seen in practice seldom "
            "reach this bound, but nothing here proves that none does.",
        ),
        (
            12.0,
            f"This is hardly a guarantee: in the worst case somebody who gave it even odds (50 %) that {ONE} learns "
            "from this release whether it is, but for one chance in 163,000. Treat the release as if a determined "
            "reader could find that out.",
        ),
    ],
)
def test_a_larger_epsilon_is_put_in_plainer_words(epsilon: float, sentence: str) -> None:
    assert str(risk(epsilon, "author_id")) == sentence


@pytest.mark.parametrize(
    ("epsilon", "ending"),
    [
        (0.5, "that is still a strong guarantee: even odds can become a belief of about 62 % at most."),
        (2.0, "that is a moderate guarantee: even odds may become a belief of about 88 %."),
        (
            10.0,
            "that is a weak guarantee: even odds may become a belief of about 99.995 %, which is close to certainty.",
        ),
        (40.0, "that is hardly a guarantee: even odds may become as good as certainty."),
    ],
)
def test_what_was_spent_in_all_is_put_in_words_of_its_own(epsilon: float, ending: str) -> None:
    assert risk_of_all(epsilon) == (
        f"All that was charged to this data set’s budget adds up to ε = {epsilon:g}, this release included. Taken "
        f"together {ending}"
    )


@pytest.mark.parametrize(
    ("epsilon", "tone"),
    [
        (1e-6, "strong"),
        (1.0, "strong"),
        (1.001, "moderate"),
        (3.0, "moderate"),
        (3.001, "weak"),
        (10.0, "weak"),
        (10.001, "hardly any"),
        (1e3, "hardly any"),
        (float("inf"), "hardly any"),
    ],
)
def test_the_tone_changes_at_1_3_and_10(epsilon: float, tone: str) -> None:
    assert tone_of(epsilon) == tone


def test_the_largest_epsilon_that_a_policy_may_state_has_a_factor() -> None:
    assert odds_factor(1000.0) == "1.01e304"
    assert odds_factor(1.0) == "2.7"


def test_a_unit_is_text_and_no_markup() -> None:
    assert "a certain <bdi>&lt;b&gt;{0}</bdi> is in the data" in risk(1.0, "<b>{0}")
