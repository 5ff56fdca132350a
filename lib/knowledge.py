"""What each chapter takes for granted, as questions before it begins.

One list of questions for each chapter: about things that the chapter really
uses, with one right answer (written first; the page mixes them) and the place
to read about it, "page: heading" or "glossary: term".
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from .page import Html
from .quiz import Choice, choices

TITLE = "Do you have what this chapter needs?"
PASSED = "You have what this chapter needs."
MISSED = "Where to read is named below each question you missed."
_CONFIG = Path(__file__).parent.parent / "_config.yml"


@dataclass(frozen=True)
class Ask:
    """A question; ``read`` names the place to read about it."""

    words: str
    right: str
    wrong: tuple[str, ...]
    why: str
    read: str


def quiz(chapter: str) -> Html:
    """The questions before ``chapter``, folded; scored in the page.

    Raises ``KeyError`` for a chapter without questions.
    """
    asked = [
        Choice(each.words, each.right, each.wrong, each.why,
               (name(each.read), address(each.read)))
        for each in BEFORE[chapter]
    ]  # fmt: skip
    title = f"{TITLE} {len(asked)} questions"
    return choices(asked, title=title, passed=PASSED, missed=MISSED)


def name(place: str) -> str:
    """What a link to ``place`` is called: the heading or the term."""
    return place.partition(": ")[2]


def address(place: str) -> str:
    """Where ``place`` is: beside the built page, or on the book's site.

    A live notebook, on Colab or in Jupyter, has no built pages beside it.
    """
    page, _, part = place.partition(": ")
    if page == "glossary":
        page, part = "notation", "term-" + part.replace(" ", "-")
    else:
        part = re.sub(r"[^a-z0-9]+", "-", part.lower()).strip("-")
    live = "google.colab" in sys.modules or "JPY_SESSION_NAME" in os.environ
    return f"{_site() + '/book/' if live else ''}{page}.html#{part}"


def _site() -> str:
    """The address of the built pages, from the repository's."""
    text = _CONFIG.read_text(encoding="utf-8")
    found = re.search(r"url: https://github\.com/([\w.-]+)/([\w.-]+)", text)
    if found is None:
        raise ValueError("_config.yml names no repository")
    return "https://{}.github.io/{}".format(*found.groups())


BEFORE = {
    "adversarial-examples": (
        Ask(
            "`x` is a batch of ten grey digits of 28 by 28 pixels. Which "
            "shape does it have in PyTorch?",
            "`(10, 1, 28, 28)`",
            ("`(10, 28, 28, 1)`", "`(28, 28, 10)`"),
            "The order is images, channels, height, width.",
            "notation: Symbols and their names in code",
        ),
        Ask(
            "Which way does the gradient of a function point?",
            "the way in which the function grows fastest",
            ("towards the nearest minimum",
             "the way in which the function stays the same"),
            "A small step changes the function by about the inner product of "
            "step and gradient, which is largest along the gradient.",
            "adversarial-examples: One step: the fast gradient sign method",
        ),
        Ask(
            "A network gives the true class the probability 0.01. What is "
            "the cross-entropy?",
            "about 4.6, the negative logarithm of 0.01",
            ("0.01", "0.99"),
            "The cross-entropy is the negative logarithm of the probability "
            "of the true class: being sure and wrong costs much.",
            "notation: Symbols and their names in code",
        ),
    ),
    "training": (
        Ask(
            "After each step, PGD projects. What does the projection do?",
            "It returns the image to the ball and to the pixel range.",
            ("It makes the gradient longer.",
             "It returns to the worst point found so far."),
            "A step may leave the set of allowed perturbations; the "
            "projection goes to the nearest allowed point.",
            "adversarial-examples: Many steps: projected gradient descent",
        ),
        Ask(
            "An attack fails on 70 % of the test images. What does that say "
            "about the robust accuracy on these images?",
            "It is 70 % or less.",
            ("It is 70 % or more.", "It is 70 %."),
            "A stronger attack may fool some of the images that this one "
            "could not.",
            "adversarial-examples: How success grows with eps",
        ),
        Ask(
            "The robust objective is a minimum of a maximum. Who chooses "
            "what?",
            "Training chooses the weights, the adversary the perturbation.",
            ("Training chooses the perturbation, the adversary the weights.",
             "Training chooses both."),
            "The maximum over perturbations stands inside, for each image; "
            "the minimum over weights stands outside.",
            "adversarial-examples: Two objectives",
        ),
    ),
    "augmentation": (
        Ask(
            "What is a half-half batch?",
            "One half of its images is perturbed, the other half is clean.",
            ("In each image one half of the pixels is perturbed.",
             "It is used in every other epoch only."),
            "So the network sees clean and perturbed images in every update.",
            "glossary: half-half batches",
        ),
        Ask(
            "Two ways of training are compared over several seeds. Why look "
            "at the difference within each seed?",
            "What both runs of a seed share cancels in the difference.",
            ("Differences are larger than accuracies.",
             "With differences no interval is needed."),
            "Runs of one seed share their first weights, the order of the "
            "data and the test digits.",
            "training: What came out: standard accuracy",
        ),
        Ask(
            "What has adversarial training on all 60,000 digits done to the "
            "standard accuracy, at the largest radii?",
            "It has lowered it a little.",
            ("It has raised it.", "It has halved it."),
            "On MNIST the drop is small and beyond the noise at the largest "
            "radii.",
            "training: What to remember",
        ),
    ),
    "photographs": (
        Ask(
            "What became of the gain of robust training on digits as the "
            "training set grew, at the largest radii?",
            "It rose, shrank again, and ended as a loss.",
            ("It grew with the data.", "There never was one."),
            "With a few hundred digits the gain is largest; with all of them "
            "the largest radii do harm.",
            "augmentation: What to remember",
        ),
        Ask(
            "What does the gain at one size of the training set compare?",
            "Standard accuracy after robust and after standard training.",
            ("Robust accuracy after robust and after standard training.",
             "Standard and robust accuracy of one network."),
            "Both networks of a seed are read on the same clean test images.",
            "augmentation: Standard accuracy against training-set size",
        ),
        Ask(
            "A network was trained against a single gradient step. It "
            "withstands that step and falls to a stronger attack. What is "
            "this called?",
            "catastrophic overfitting",
            ("data augmentation", "half-half training"),
            "The network has learned to fool the step rather than to "
            "withstand perturbations.",
            "glossary: catastrophic overfitting",
        ),
    ),
    "toy-easy": (
        Ask(
            "What is the variance of the average of d independent numbers, "
            "each of variance 1?",
            "1/d",
            ("1", "d"),
            "The variances add up to d, and dividing a number by d divides "
            "its variance by d squared.",
            "toy-easy: Why averaging works",
        ),
        Ask(
            "Φ is the distribution function of the standard normal law. "
            "What is Φ(3), about?",
            "0.999",
            ("0.5", "0.001"),
            "Φ(3) is the probability that a standard normal number is below "
            "3, three standard deviations above its mean.",
            "notation: Symbols of the toy model",
        ),
        Ask(
            "A number is normal with mean 2 and variance 1. How likely is it "
            "positive?",
            "Φ(2)",
            ("Φ(−2)", "1/2"),
            "Subtract the mean: a standard normal number has to exceed −2, "
            "which is as likely as one below 2.",
            "toy-easy: The distribution",
        ),
    ),
    "toy-tradeoff": (
        Ask(
            "The weak features have mean ηy. What can an adversary of size "
            "ε = 2η make of it?",
            "−ηy, the mean that belongs to the other label",
            ("0, and no more than that",
             "nothing, since the noise is larger than ε"),
            "Subtracting 2ηy from every weak feature gives them the law of "
            "the other label.",
            "toy-easy: One small push on every feature",
        ),
        Ask(
            "Which rule is right with probability p, attacked or not, for "
            "every ε below 1?",
            "the sign of the strong feature",
            ("the sign of the average of the weak features",
             "the Bayes classifier"),
            "The strong feature is 1 or −1, and a push of less than 1 does "
            "not change its sign.",
            "toy-easy: The best classifier there is",
        ),
        Ask(
            "In the theorem the standard accuracy is at least 1 − δ. What is "
            "δ there?",
            "an error rate",
            ("a perturbation", "the radius of the ball"),
            "The letter has two uses in the paper, and this chapter means "
            "the error rate.",
            "notation: Symbols of the toy model",
        ),
    ),
    "toy-training": (
        Ask(
            "The hinge loss of a margin t is max(0, 1 − t). What is it at "
            "t = 3?",
            "0",
            ("2", "−2"),
            "From the margin 1 on the hinge loss is 0.",
            "toy-training: The statement",
        ),
        Ask(
            "By how much can a perturbation with entries of size ε lower the "
            "margin of a linear rule with weights w?",
            "ε times the sum of all |wᵢ|",
            ("ε times the largest |wᵢ|", "ε times the Euclidean length of w"),
            "Every entry moves by ε against the sign of its weight.",
            "toy-easy: One small push on every feature",
        ),
        Ask(
            "Which classifiers does Theorem 2.1 rule out, at ε = 2η?",
            "those that are nearly always right and robust as well",
            ("those that are robust", "those that are not linear"),
            "The bound on robust accuracy shrinks with the error on clean "
            "data, for every classifier.",
            "toy-tradeoff: The statement",
        ),
    ),
    "toy-pixels": (
        Ask(
            "On the toy distribution, what does adversarial training do to "
            "the weight of a feature whose mean is smaller than the attack?",
            "It sets it to 0.",
            ("It doubles it.", "It turns its sign round."),
            "Such a feature loses more in the worst case than it gains on "
            "average.",
            "toy-training: Second half: adversarial training",
        ),
        Ask(
            "Why does one perturbation fool standard rules that were fitted "
            "to different samples of the toy?",
            "It depends on the signs of their weights only, and they agree.",
            ("It is so large that it fools any rule.",
             "The samples have most of their examples in common."),
            "Every rule that has learnt anything has almost only positive "
            "weights on the weak features.",
            "toy-training: Attacks transfer",
        ),
        Ask(
            "How often is the sign of a single weak feature right, if η is "
            "small?",
            "a little more often than a coin",
            ("with probability p", "almost always"),
            "Its mean moves by η only, while its standard deviation is 1; "
            "only the average of many is reliable.",
            "toy-easy: The distribution",
        ),
    ),
    "gradients": (
        Ask(
            "An input gradient has one number for each what?",
            "pixel of the image",
            ("weight of the network", "class"),
            "It is the derivative of the loss with respect to the pixels.",
            "glossary: input gradient",
        ),
        Ask(
            "What does adversarial training put in the place of each image?",
            "its worst perturbation that an attack finds just then",
            ("the image with random noise on it",
             "a perturbation made for another network"),
            "The attack is run anew in every update, on the network as it is "
            "at that moment.",
            "training: The loop, written out",
        ),
        Ask(
            "When is the rank correlation of two maps of one image 1?",
            "when both put the pixels in the same order",
            ("when both have the same sum",
             "when both are large on one half of the pixels"),
            "It is the ordinary correlation of the pixels' ranks in the two "
            "maps.",
            "gradients: Then measure",
        ),
    ),
    "large-perturbations": (
        Ask(
            "What is gradient masking?",
            "Gradients lead attacks nowhere, though errors are near.",
            ("The gradient lies on the object.",
             "The attacker may not see the network's weights."),
            "Such a network only looks robust: an attack without gradients "
            "still finds the errors.",
            "how-sure: Five ways to fool yourself",
        ),
        Ask(
            "100 pixels change by 0.1 each. How long is this perturbation in "
            "the l2 norm?",
            "1",
            ("0.1", "10"),
            "The length is the root of the sum of squares: the root of "
            "100 times 0.01.",
            "adversarial-examples: The geometry of the two balls",
        ),
        Ask(
            "Where are the large entries of a robust network's input "
            "gradient?",
            "on strokes and edges of the object",
            ("spread evenly over the picture", "on the background"),
            "That is claim C22, measured beside three controls.",
            "gradients: What to remember",
        ),
    ),
    "between-classes": (
        Ask(
            "What is a judge in this book?",
            "a classifier that took no part in making the picture",
            ("the network whose loss was climbed",
             "the attack that made the picture"),
            "It says what it sees in a picture made for another network.",
            "glossary: judge",
        ),
        Ask(
            "What does climbing a robust network's loss make of an image, in "
            "a large ball?",
            "mostly a picture that looks like another class",
            ("noise that nobody can see",
             "nothing, because the network is robust"),
            "For such a network looking like another class is what raises "
            "the loss.",
            "large-perturbations: What to remember",
        ),
        Ask(
            "Which picture lies half-way on the straight line between two "
            "images?",
            "the mean of the two, pixel by pixel",
            ("the left half of one and the right half of the other",
             "the brighter of the two in every pixel"),
            "The line mixes the two images in shares that add up to 1.",
            "between-classes: A line, and what to ask of it",
        ),
    ),
    "what-aligns": (
        Ask(
            "Gradients were compared with the edges of another image too. "
            "What does that control for?",
            "agreement that comes from where objects usually are",
            ("agreement that comes from the choice of seed",
             "noise in the pixels"),
            "A gradient that only knows where objects usually are agrees "
            "with any image's edges.",
            "gradients: Then measure",
        ),
        Ask(
            "A standard judge agrees with a standard network about its "
            "pictures. Why does that say little?",
            "Perturbations transfer between networks trained alike.",
            ("A standard judge is no better than guessing.",
             "The judge has seen the pictures in its training."),
            "What fools the one fools the other, whatever the picture looks "
            "like.",
            "large-perturbations: What a judge sees",
        ),
        Ask(
            "On the lines between images, what told the networks apart?",
            "whether the judge sees the new class at the end",
            ("whether the judge's share never falls on the way",
             "how many frames the line has"),
            "A share may rise smoothly and end near nothing; where lines "
            "arrive, most are smooth.",
            "between-classes: What the judges say on the way",
        ),
    ),
    "how-sure": (
        Ask(
            "For digits, which is larger: the l-infinity ball of radius 0.3 "
            "or the l2 ball of radius 1.5?",
            "Neither contains the other.",
            ("The l2 ball contains the other.",
             "The l-infinity ball contains the other."),
            "One pixel may move by 1 in the second ball only; all pixels may "
            "move by 0.3 in the first only, a length of 8.4.",
            "adversarial-examples: The geometry of the two balls",
        ),
        Ask(
            "Of ten images, one restart of an attack fools the first and the "
            "second, another the second and the third. Which robust accuracy "
            "may be reported?",
            "70 %",
            ("80 %", "60 %"),
            "The worst restart counts for each image, and three images were "
            "fooled by one or the other.",
            "adversarial-examples: How success grows with eps",
        ),
        Ask(
            "Random noise in the ball fools a network almost never. Is it "
            "robust there?",
            "That does not follow: the worst point of the ball counts.",
            ("Yes, most points of the ball are harmless.",
             "Yes, if enough noise was drawn."),
            "In hundreds of dimensions chance hardly ever meets the few "
            "harmful directions, and a gradient leads there.",
            "adversarial-examples: How success grows with eps",
        ),
    ),
    "costs": (
        Ask(
            "PGD with seven steps looks for one perturbation. How many "
            "gradients with respect to the image does it take?",
            "7",
            ("1", "49"),
            "It looks at the gradient anew after each step.",
            "adversarial-examples: Many steps: projected gradient descent",
        ),
        Ask(
            "What is FGSM, beside PGD?",
            "one step of full length",
            ("many steps without a gradient", "a step at random"),
            "It takes the sign of one gradient and goes the whole way.",
            "glossary: FGSM",
        ),
        Ask(
            "Which of its results does an attack not need from "
            "`loss.backward()`?",
            "the gradients with respect to the weights",
            ("the gradient with respect to the image",
             "all of them: it needs the loss only"),
            "An attack changes the image and leaves the network as it is.",
            "costs: Does the clock agree?",
        ),
    ),
}  # fmt: skip
