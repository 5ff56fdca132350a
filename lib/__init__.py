"""Code of the executable book of "Robustness May Be at Odds with Accuracy".

Tsipras, Santurkar, Engstrom, Turner and Madry, ICLR 2019, arXiv 1805.12152.

One module, one subject; import what you need, importing does no work:

- ``norms``       balls of radius eps: project, random start, steepest step
- ``attacks``     FGSM, PGD, the exact attack on linear models
- ``evaluation``  accuracy with intervals, robust accuracy, sanity checks
- ``models``      the networks, with normalisation inside
- ``data``        MNIST, CIFAR-10, Imagenette as tensors
- ``training``    standard, adversarial, half-half and random-in-ball
- ``toy``         the paper's provable model
- ``results``     records: settings, values, cost, environment
- ``checkpoints`` trained weights with their settings beside them
- ``runs``        which preset a chapter runs with (``BOOK_RUN``)
- ``page``        what a cell shows: sentences, tables, figures, exercises
- ``plots``       the figures' common style
- ``ledger``      the rows of "Paper versus ours"
"""

__version__ = "0.1.0"
