"""Code of the executable book of "Robustness May Be at Odds with Accuracy".

Tsipras, Santurkar, Engstrom, Turner and Madry, ICLR 2019, arXiv 1805.12152.

One module, one subject; import what you need, importing does no work:

- ``norms``       balls of radius eps: project, random start, steepest step
- ``attacks``     FGSM, PGD, the exact attack on linear models
- ``evaluation``  accuracy with intervals, robust accuracy, sanity checks
- ``models``      the networks, with normalisation inside
- ``data``        MNIST, CIFAR-10, Imagenette as tensors
- ``training``    standard, adversarial, half-half and random-in-ball
- ``toy``         the paper's provable model (``toy_svm``: its optima)
- ``runs``        which preset a chapter runs with (``BOOK_RUN``)
- ``experiments`` what one recorded point does (``toy_experiments`` too)
- ``results``     records: settings, values, cost, environment
- ``checkpoints`` trained weights with their settings beside them
- ``readings``    from records to the numbers of tables and figures
- ``stats``       means and intervals over seeds
- ``paper``       the paper's own numbers and the lines of the ledger
- ``ledger``      the verdicts of "Paper versus ours"
- ``page``        what a cell shows: sentences, tables, figures
- ``plots``       the figures' common style
- ``sliders``     interactive figures that need no kernel
- ``exercises``   checks of the exercises (``toy_exercises`` too)
"""

__version__ = "0.1.0"
