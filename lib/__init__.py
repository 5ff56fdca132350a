"""Code of the executable book of "Robustness May Be at Odds with Accuracy".

Tsipras, Santurkar, Engstrom, Turner and Madry, ICLR 2019, arXiv 1805.12152.

One module, one subject; import what you need, importing does no work:

- ``norms``       balls of radius eps: project, random start, steepest step
- ``attacks``     FGSM, PGD, the exact attack on linear models
- ``apgd``        Auto-PGD, which chooses its own step lengths
- ``fab``         FAB, which walks along the boundary to the nearest error
- ``blackbox``    Square, which asks for answers and for no gradient
- ``counting``    accuracy with its interval, the passes of a model
- ``evaluation``  robust accuracy, worst case for each example
- ``protocols``   what it rests on: quick, strong (``cascade`` at work)
- ``sanity``      the red flags of an evaluation
- ``models``      the networks, with normalisation inside
- ``data``        MNIST, CIFAR-10, Imagenette as tensors
- ``recipes``     settings of a training run, and the named ones
- ``objectives``  the loss of a batch for each method: PGD, free, TRADES
- ``training``    the loop around them, interrupted and resumed
- ``states``      files of unfinished runs
- ``averaging``   a moving average of the weights
- ``overfitting`` validation images: the best epoch, and a warning
- ``distributed`` the same training on many processes (``processes``,
  ``streams``); ``restricted_imagenet``: photographs for it
- ``toy``         the paper's provable model (``toy_svm``: its optima)
- ``runs``        which preset a chapter runs with (``BOOK_RUN``)
- ``experiments`` what one recorded point does (``toy_experiments`` too)
- ``sizes``       the size sweep of Figures 1 and 6 (``size_readings``,
  ``size_plots``); ``confusion``: how much each perturbation confuses
- ``saliency``    what a gradient looks at, in numbers (``seeing``: of our
  networks, with controls); ``large``: large perturbations and their judges
  (``perceptual``: how far they are; ``masking``: are gradients masked);
  ``seeing_readings``, ``seeing_plots``: what the pages show of them
- ``aligned``     networks trained with noise: their gradients
  (``aligned_features``: pictures rebuilt from features; ``aligned_readings``,
  ``aligned_plots``)
- ``results``     records: settings, values, cost, environment
- ``checkpoints`` trained weights with their settings beside them
- ``readings``    from records to the numbers of tables and figures
- ``stats``       means and intervals over seeds
- ``paper``       the paper's own numbers and the lines of the ledger
- ``ledger``      the verdicts of "Paper versus ours" (``toy_``, ``size_``,
  ``seeing_ledger`` too)
- ``page``        what a cell shows: sentences, tables, figures
- ``plots``       the figures' common style
- ``sliders``     interactive figures that need no kernel
- ``explorer``    the same for pictures, computed beforehand (``closer``:
  of our records); ``quiz``: a quiz that scores itself
- ``exercises``   checks of the exercises (``toy_``, ``cost_``, ``size_``,
  ``seeing_``, ``large_``, ``aligned_exercises`` too)
"""

__version__ = "0.1.0"
