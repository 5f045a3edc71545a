"""The trees: which partitions, bounds, bounds on values, noise and ε. Tests hold their claims against plans.

Where two ways are equal is said for plans of one stage at ε 1 and δ 10⁻⁶; other amounts move it, and not by much.
"""

from __future__ import annotations

from dpbeam.pipelines.choosing.tree import Advice, Answer, Question, Tree

_YES, _NO = "yes", "no"


def _either(asks: str, *, yes: Question | Advice, no: Question | Advice) -> Question:
    answers = (Answer(word=_YES, says="yes", then=yes), Answer(word=_NO, says="no", then=no))
    return Question(asks=asks, answers=answers)


_SELECTIONS = "docs/policy.md, 'Private partitions'"
_PUBLIC = "docs/policy.md, 'Public partitions'"
_ROUNDS = "docs/policy.md, 'Selection in rounds'"

_THRESHOLDS = Question(
    asks="In how many groups may one person count (l0)?",
    answers=(
        Answer(
            word="two",
            says="one or two",
            then=Advice(
                lines=(
                    "partitions: {private: {strategy: laplace_thresholding, pre_threshold: 5}}\n"
                    "bounds: {l0: 2, linf: 1}\n"
                    "metrics: [privacy_id_count]\n"
                    "noise: laplace"
                ),
                because="the noisy number of people selects a group and is the figure that is shown: one noise for "
                "both. "
                "Up to two groups a person, Laplace noise keeps the smallest groups.",
                see=_SELECTIONS,
            ),
        ),
        Answer(
            word="more",
            says="three or more",
            then=Advice(
                lines=(
                    "partitions: {private: {strategy: gaussian_thresholding, pre_threshold: 5}}\n"
                    "bounds: {l0: 20, linf: 1}\n"
                    "metrics: [privacy_id_count]\n"
                    "noise: gaussian"
                ),
                because="the noisy number of people selects a group and is the figure that is shown: one noise for "
                "both. "
                "Gaussian noise grows with √l0, Laplace noise and truncated_geometric with l0.",
                see=_SELECTIONS,
            ),
        ),
    ),
)

_WITHOUT_COUNT = Question(
    asks="In how many groups may one person count (l0)?",
    answers=(
        Answer(
            word="one",
            says="one",
            then=Advice(
                lines=(
                    "partitions: {private: {strategy: truncated_geometric, pre_threshold: 5}}\n"
                    "bounds: {l0: 1, linf: 1}\n"
                    "metrics: [count]\n"
                    "noise: laplace"
                ),
                because="where no number of people is shown, and each counts in one group, it keeps the smallest "
                "groups. "
                "With privacy_id_count among the metrics, laplace_thresholding keeps smaller ones still.",
                see=_SELECTIONS,
            ),
        ),
        Answer(
            word="more",
            says="two or more",
            then=Advice(
                lines=(
                    "partitions: {private: {strategy: gaussian_thresholding, pre_threshold: 5}}\n"
                    "bounds: {l0: 20, linf: 1}\n"
                    "metrics: [count]\n"
                    "noise: gaussian"
                ),
                because="what truncated_geometric needs grows with l0, this with √l0. Show privacy_id_count too, if "
                "you "
                "may: selecting then costs nothing more.",
                see=_SELECTIONS,
            ),
        ),
    ),
)

SELECTION = Tree(
    name="selection",
    about="Which groups (partitions) are shown, and how that is decided",
    start=_either(
        "Do you know the groups beforehand, without looking at the data (regions, products, days)?",
        yes=_either(
            "May there be rows of groups that aren't on your list, and should they count?",
            yes=Advice(
                lines="partitions: {public: {values: [north, south], other: elsewhere}}",
                because="all listed groups are shown, also empty ones, and the rest counts in one group more.",
                see=_PUBLIC,
            ),
            no=Advice(
                lines="partitions: {public: {values: [north, south]}}",
                because="all listed groups are shown, also empty ones; nothing is spent on choosing them.",
                see=_PUBLIC,
            ),
        ),
        no=Question(
            asks="What are the groups like?",
            answers=(
                Answer(
                    word="coarse",
                    says="some hundred or thousand, most of them of many people (towns, shops)",
                    then=_either(
                        "Do you show how many people each group has (privacy_id_count)?",
                        yes=_THRESHOLDS,
                        no=_WITHOUT_COUNT,
                    ),
                ),
                Answer(
                    word="words",
                    says="very many, nearly all of hardly anybody (words, phrases, links)",
                    then=Advice(
                        lines=(
                            "partitions: {private: {strategy: mad2r, pre_threshold: 5}}\n"
                            "bounds: {l0: 100, linf: 1}\n"
                            "metrics: [privacy_id_count]\n"
                            "noise: gaussian"
                        ),
                        because="each person spreads one weight over all their groups, and gives none to those "
                        "without a "
                        "prospect. Its two rounds are jobs of their own, each of which reads the data.",
                        see=_ROUNDS,
                    ),
                ),
                Answer(
                    word="levels",
                    says="from coarse to fine (country, city, shop), and totals should hold",
                    then=Advice(
                        lines=(
                            "group_by: [country, city, shop]\n"
                            "partitions: {private: {strategy: mad, hierarchical: true}}\n"
                            "bounds: {l0: 20, linf: 1}\n"
                            "metrics: [count]\n"
                            "noise: gaussian"
                        ),
                        because="what isn't kept counts in its parent's `other`, so no row within the bounds is lost.",
                        see="docs/policy.md, 'Hierarchical keys'",
                    ),
                ),
            ),
        ),
    ),
)

_BOUNDS = "docs/policy.md, 'Bounds'"

BOUNDS = Tree(
    name="bounds",
    about="How much one person may count for: l0, linf, l1",
    start=_either(
        "Has each person exactly one row?",
        yes=Advice(
            lines="bounds: {l0: 1, linf: 1}",
            because="more would pay for noise that nobody needs. If somebody has a second row after all, one is "
            "left out.",
            see=_BOUNDS,
        ),
        no=_either(
            "Do you know from the domain (not from these rows) how much nearly everybody has at most?",
            yes=Question(
                asks="Which is more even from person to person?",
                answers=(
                    Answer(
                        word="groups",
                        says="the number of their groups, and of their rows in each",
                        then=Advice(
                            lines="bounds: {l0: 20, linf: 2}",
                            because="noise grows with √l0 (Gaussian) or l0 (Laplace), and with linf: take what nearly "
                            "everybody has, not what the busiest have. What is beyond is left out at random.",
                            see=_BOUNDS,
                        ),
                    ),
                    Answer(
                        word="rows",
                        says="the number of their rows in all; these gather in few groups",
                        then=Advice(
                            lines="bounds: {l1: 20}",
                            because="a person may have all their rows in one group, and l0 × linf would have to "
                            "allow for "
                            "that in every group.",
                            see=_BOUNDS,
                        ),
                    ),
                    Answer(
                        word="people",
                        says="only people are counted, or totals of a person",
                        then=Advice(
                            lines="bounds: {l0: 20}",
                            because="each person counts once in a group, however many rows they have there, so linf "
                            "bounds "
                            "nothing.",
                            see=_BOUNDS,
                        ),
                    ),
                ),
            ),
            no=_either(
                "Is there public, older or made-up data of the same kind, which needs no protection?",
                yes=Advice(
                    lines="bounds: {l0: 20, linf: 2}  # what nearly everybody has in that data",
                    because="`dpbeam check` on such data says which share each bound keeps. On the data itself its "
                    "figures are for your eyes: a bound that is chosen by them tells of the rows.",
                    see="docs/check.md",
                ),
                no=Advice(
                    lines="bounds: {l0: {auto: {max: 100}}, linf: {auto: {max: 20}}}",
                    because="the run finds them from noisy histograms, at a share of its ε. `max` is the most that "
                    "they may "
                    "become.",
                    see="docs/policy.md, 'Automatic bounds'",
                ),
            ),
        ),
    ),
)

VALUES = Tree(
    name="values",
    about="Between which bounds values are clipped: low and high",
    start=_either(
        "Are the values limited by what they are (ages, ratings, shares, a day's minutes)?",
        yes=Advice(
            lines="metrics:\n  - mean: {column: amount, low: 0, high: 100}",
            because="such limits come from the domain, so they tell nothing of the rows, and clip nothing.",
            see="docs/policy.md, 'Metrics'",
        ),
        no=_either(
            "Has a person many small values in a group, whose total is what you sum?",
            yes=Advice(
                lines="metrics:\n  - sum: {column: amount, low_total: 0, high_total: 500}",
                because="one person's total is clipped, not each value: noise no longer grows with linf.",
                see="docs/policy.md, 'Metrics'",
            ),
            no=_either(
                "Do you know from the domain where nearly all values lie?",
                yes=Advice(
                    lines="metrics:\n  - sum: {column: amount, low: 0, high: 200}",
                    because="noise grows with the larger of |low| and |high|; what few values lose by clipping is "
                    "often less "
                    "than what all figures lose by the noise of a wide range.",
                    see="docs/policy.md, 'Metrics'",
                ),
                no=Advice(
                    lines="metrics:\n  - sum: {column: amount, low: 0, high: {auto: {most: 1e6}}}",
                    because="the run finds it from a noisy histogram, at a share of its ε. State `low` where you "
                    "know it.",
                    see="docs/policy.md, 'Automatic bounds'",
                ),
            ),
        ),
    ),
)

NOISE = Tree(
    name="noise",
    about="Laplace or Gaussian noise, where groups are public (for private ones `selection` says it)",
    start=Question(
        asks="In how many groups may one person count (l0), times the figures with a noise of their own in each group?",
        answers=(
            Answer(
                word="seven",
                says="seven or fewer",
                then=Advice(
                    lines="noise: laplace",
                    because="where one person moves few figures, its intervals are narrower.",
                    see="docs/policy.md, 'stages'",
                ),
            ),
            Answer(
                word="more",
                says="eight or more",
                then=Advice(
                    lines="noise: gaussian",
                    because="its scale grows with the square root of what one person moves, that of Laplace noise "
                    "with all "
                    "of it. `dpbeam plan` shows both ends: change the word, and compare the intervals.",
                    see="docs/policy.md, 'stages'",
                ),
            ),
        ),
    ),
)

_RISK = "docs/guarantee.md"


def _spread(epsilon: float, tone: str) -> Question:
    """How a total ε is spread over the releases of a year, in steps that add up to it."""

    def advice(releases: int, each: str) -> Advice:
        stated = (
            f"budget: {{epsilon: {epsilon:g}, delta: 1e-6}}\nrun: {{epsilon: {each}, delta: {1e-6 / releases:.0e}}}"
        )
        return Advice(
            lines=stated.replace("e-0", "e-"),
            because=f"all releases together are what a reader has: ε {epsilon:g} in all is a {tone} guarantee. δ in "
            f"all must "
            "be well below one over the number of people. Ask whoever answers for them.",
            see=_RISK,
        )

    return Question(
        asks="How often will figures about the same people be released while they matter?",
        answers=(
            Answer(word="once", says="once", then=advice(1, f"{epsilon:g}")),
            Answer(word="ten", says="up to ten times", then=advice(10, f"{epsilon / 10:g}")),
            Answer(
                word="hundred",
                says="up to a hundred times (weekly, for two years)",
                then=advice(100, f"{epsilon / 100:g}"),
            ),
        ),
    )


EPSILON = Tree(
    name="epsilon",
    about="How much a dataset may spend in all, and one run of it",
    start=Question(
        asks="What if somebody learned that a certain person is in the data, with all their rows?",
        answers=(
            Answer(word="grave", says="grave harm: health, faith, crime, poverty", then=_spread(1, "strong")),
            Answer(word="some", says="some harm: purchases, places, habits", then=_spread(3, "moderate")),
            Answer(word="little", says="hardly any: it is known or trivial", then=_spread(10, "weak")),
        ),
    ),
)

TREES = {tree.name: tree for tree in (EPSILON, BOUNDS, VALUES, SELECTION, NOISE)}
"""In the order in which a policy is written."""
