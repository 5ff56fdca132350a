"""Interactive figures of the toy model that need no kernel.

``figure("plane")`` returns an object that a notebook shows as plain HTML:
native range inputs, an SVG and a short script. It works alike in the built
book (from disk too), JupyterLab and Colab. The SVG is drawn here, for the
starting values, so a reader without scripts sees the same figure; with
scripts ``sliders.js`` moves its curves. Formulas: ``sliders_scenes``.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from .page import spelled
from .sliders_scenes import SCENES, Scene

_HERE = Path(__file__).parent
_SIZE = (480, 330)
# plotting area: left, top, width, height; half a tick's words fit beside it
_BOX: tuple[float, float, float, float] = (66, 12, 384, 262)


@dataclass(frozen=True)
class Control:
    """One slider: its setting, words beside it, range and number format."""

    name: str
    words: str
    low: float
    high: float
    step: float
    start: float
    shown: str


@dataclass(frozen=True)
class Figure:
    """What ``figure`` needs to know about one interactive figure.

    ``curves`` and ``marks`` hold (name, CSS classes, words of the legend).
    ``sentence`` holds ``{value:format}`` for the scene's values.
    """

    title: str
    alt: str
    x: tuple[str, str, int]  # axis label, tick format, intervals
    y: tuple[str, str, int]
    controls: tuple[Control, ...]
    curves: tuple[tuple[str, str, str], ...]
    marks: tuple[tuple[str, str, str], ...]
    sentence: str


_P = Control(
    "p", "p, how often x1 is right", 0.55, 0.99, 0.005, 0.95, "percent"
)
_M = Control(
    "m", "m = η√d, strength of the weak features", 0.5, 5, 0.05, 3, "number"
)
_TAU = Control("tau", "τ, weight of x1", 0, 7, 0.05, 2, "number")


def _d(low: float, high: float, start: float) -> Control:
    return Control(
        "log_d", "d, number of weak features", low, high, 0.05, start, "power"
    )


FIGURES: dict[str, Figure] = {
    "shift": Figure(
        title="The pooled weak features before and after the shift",
        alt="Densities of the pooled weak feature z: two bells, one for "
        "each label, at plus and minus m. The attack moves both towards "
        "each other, at eps = eta they meet, at 2 eta they have changed "
        "places. Two upright lines at plus and minus tau show where the "
        "gate decides. The numbers are in the sentence below the figure.",
        x=("pooled weak feature z", "whole", 4),
        y=("density", "number", 3),
        controls=(
            _P,
            _M,
            _d(1, 4, 3),
            Control(
                "ratio", "ε / η, size of the attack", 0, 3, 0.05, 2, "number"
            ),
            _TAU,
        ),
        curves=(
            ("plus_before", "plus pale", "y = +1, before"),
            ("minus_before", "minus pale", "y = −1, before"),
            ("plus_after", "plus", "y = +1, attacked"),
            ("minus_after", "minus", "y = −1, attacked"),
            (
                "gate_up",
                "thin dash",
                "the gate says +1 right of −τ (x1 = +1) or of +τ (x1 = −1)",
            ),
            ("gate_down", "thin dash", ""),
        ),
        marks=(),
        sentence="With d = {d:whole} the weak features have "
        "η = {eta:fine} and the attack ε = {eps:fine}. Accuracy before and "
        "after it: weak features alone (τ = 0) {avg_standard:percent} and "
        "{avg_robust:percent}; gate {gate_standard:percent} and "
        "{gate_robust:percent} (linear rule: {linear_robust:percent}); "
        "x1 alone {x1_standard:percent} and {x1_robust:percent}.",
    ),
    "plane": Figure(
        title="Standard against robust accuracy at ε = 2η",
        alt="Robust accuracy against standard accuracy. The bound of Theorem "
        "2.1 is a straight line from the point of x1 alone, top left, down "
        "to standard accuracy 1. The exact frontier runs just under it "
        "until it turns off near the Bayes classifier. The linear rules "
        "lie below. Two markers show the gate and the linear rule at the "
        "chosen tau; their numbers are in the sentence below the figure.",
        x=("standard accuracy", "tenth", 5),
        y=("robust accuracy at ε = 2η", "hundred", 4),
        controls=(_P, _M, _d(2.1, 5, 3), _TAU),
        curves=(
            ("bound", "bound pale", "bound of Theorem 2.1"),
            ("linear", "linear dots", "linear rules τ·x1 + z"),
            ("wasteful", "frontier thin", "gate, τ below Bayes"),
            ("frontier", "frontier", "exact frontier"),
        ),
        marks=(
            ("x1", "x1 square", "x1 alone"),
            ("bayes", "bayes diamond", "Bayes classifier"),
            ("line", "linear square", "linear rule at τ"),
            ("gate", "frontier circle", "gate at τ"),
        ),
        sentence="With d = {d:whole}: η = {eta:fine}, ε = {eps:fine}. At "
        "τ = {tau:number} standard accuracy is {standard:percent}. Robust "
        "accuracy: gate {gate_robust:percent}, linear rule "
        "{linear_robust:percent}, bound {bound:percent} (slack of the gate "
        "{slack:small}). Bayes: τ = {bayes_tau:number}.",
    ),
    "budget": Figure(
        title="The best possible robust accuracy at every ε",
        alt="Best robust accuracy of any classifier against epsilon: it falls "
        "to p at epsilon = eta, stays there, and drops to one half at "
        "epsilon 1. The standard accuracy of the rule that reaches it "
        "stays high, then falls to p just before eta. A marker shows the "
        "chosen epsilon; the numbers are in the sentence below the figure.",
        x=("ε", "number", 4),
        y=("accuracy", "hundred", 3),
        controls=(
            _P,
            _M,
            _d(1.3, 3, 2),
            Control(
                "eps", "ε, size of the attack", 0, 1.2, 0.01, 0.2, "number"
            ),
            _TAU,
        ),
        curves=(
            ("price", "frontier dash", "standard accuracy of the best rule"),
            ("chosen", "dots", "gate with your τ, attacked"),
            ("best", "frontier", "R*(ε), best robust accuracy"),
            ("now", "thin dash", "your ε"),
        ),
        marks=(("best_now", "frontier circle", ""),),
        sentence="With d = {d:whole}: η = {eta:fine}, so ε = {eps:number} "
        "is {times:number} η. No classifier has robust accuracy above "
        "{best:percent}; the rule that reaches it has standard accuracy "
        "{price:percent}. The gate with τ = {tau:number}: "
        "{chosen_standard:percent} standard, {chosen:percent} robust.",
    ),
}

_WRITE: dict[str, Callable[[float], str]] = {
    "percent": lambda v: f"{100 * v:.2f}\u00a0%",
    "tenth": lambda v: f"{100 * v:.1f}\u00a0%",
    "hundred": lambda v: f"{100 * v:.0f}\u00a0%",
    "whole": lambda v: f"{v:.0f}",
    "small": lambda v: re.sub(r"e([+-])0*(?=\d)", _exponent, f"{v:.1e}"),
    "number": lambda v: f"{v:.2f}",
    "fine": lambda v: f"{v:.4f}",
    "power": lambda v: f"{math.floor(10**v + 0.5)}",
}
_SHAPES = {
    "circle": '<circle r="6" class="mark {}"></circle>',
    "square": '<rect x="-5" y="-5" width="10" height="10" '
    'class="mark {}"></rect>',
    "diamond": '<path d="M0-7L7 0L0 7L-7 0Z" class="mark {}"></path>',
}


@dataclass(frozen=True)
class Sliders:
    """An interactive figure; a notebook shows its HTML."""

    name: str
    settings: dict[str, float]

    @property
    def scene(self) -> Scene:
        """The numbers behind the figure at the starting values."""
        return SCENES[self.name](**self.settings)

    @property
    def alt(self) -> str:
        """What the figure shows, in words that hold for every setting."""
        return FIGURES[self.name].alt

    def __repr__(self) -> str:
        spec = FIGURES[self.name]
        numbers = _fill(spec.sentence, self.scene["values"], _WRITE)
        return f"{spec.title}. {spec.alt} {numbers}"

    def _repr_html_(self) -> str:
        spec = FIGURES[self.name]
        shared, style, script = (
            (_HERE / name).read_text(encoding="utf-8")
            for name in ("controls.css", "sliders.css", "sliders.js")
        )
        seed = f"{self.name} {sorted(self.settings.items())}"
        key = "toy-" + hashlib.sha256(seed.encode()).hexdigest()[:8]
        rows = "\n".join(_row(c, self.settings, key) for c in spec.controls)
        sentence = _fill(escape(spec.sentence), self.scene["values"], _cells())
        return (
            f'<div class="toy-sliders" data-figure="{self.name}" '
            f'role="group" aria-label="{escape(spec.title)}">\n'
            f"<style>{shared}{style}</style>\n"
            f"{_svg(spec, self.scene, self.alt)}\n{_legend(spec)}\n"
            f'<div class="controls" data-needs-script hidden>\n{rows}\n'
            '<button type="button" data-lm-suppress-shortcuts="true">'
            "Back to the start</button></div>\n"
            f'<p role="status" aria-live="polite">{sentence}</p>\n'
            f"<script>(() => {{\n{script}\ntoySliders.startAll();\n}})();"
            "</script>\n</div>"
        )


def figure(name: str, **start: float) -> Sliders:
    """The interactive figure ``name`` with other starting values.

    ``name``: "shift" (densities of z), "plane" (the frontier) or "budget"
    (the best robust accuracy at every eps). ``start`` sets its sliders, for
    instance ``figure("plane", p=0.9, m=4, log_d=3, tau=1.5)``; log_d is the
    decimal logarithm of d. ``ValueError`` for a name or slider that does
    not exist or a value outside the slider's range.
    """
    if name not in FIGURES:
        raise ValueError(f"no figure {name!r}; choose from {list(FIGURES)}")
    controls = {c.name: c for c in FIGURES[name].controls}
    settings = {key: float(c.start) for key, c in controls.items()}
    for key, value in start.items():
        if key not in controls:
            raise ValueError(
                f"{name} has no slider {key!r}, only {list(controls)}"
            )
        if not controls[key].low <= value <= controls[key].high:
            raise ValueError(
                f"{key} must lie in [{controls[key].low}, "
                f"{controls[key].high}], not {value!r}"
            )
        settings[key] = float(value)
    return Sliders(name, settings)


# --- inside ---------------------------------------------------------------


def _fill(
    template: str, values: dict[str, Any], write: dict[str, Callable[..., Any]]
) -> str:
    """Replace every ``{value:format}`` of ``template``."""
    parts = template.split("{")
    text = parts[0]
    for part in parts[1:]:
        field, rest = part.split("}", 1)
        name, kind = field.split(":")
        text += write[kind](values[name])
        text = text.replace("\0", name) + rest
    return text


def _exponent(match: re.Match[str]) -> str:
    """1.2e-05 as a script writes it, 1.2e-5."""
    return "e-" if match[1] == "-" else "e"


def _cells() -> dict[str, Callable[[float], str]]:
    """As ``_WRITE``, but each number in an element the script can find."""

    def cell(kind: str) -> Callable[[float], str]:
        return lambda v: (
            f'<b data-value="\0" data-format="{kind}">{_WRITE[kind](v)}</b>'
        )

    return {kind: cell(kind) for kind in _WRITE}


def _row(control: Control, settings: dict[str, float], key: str) -> str:
    c, value = control, settings[control.name]
    shown = _WRITE[c.shown](value)
    return (
        f'<div><label for="{key}-{c.name}">{escape(spelled(c.words))}</label>'
        f'<input type="range" id="{key}-{c.name}" name="{c.name}" '
        f'min="{c.low:g}" max="{c.high:g}" step="{c.step:g}" '
        f'value="{value:g}" data-format="{c.shown}" '
        f'aria-valuetext="{shown}" data-lm-suppress-shortcuts="true">'
        f'<output for="{key}-{c.name}" aria-live="off">{shown}</output></div>'
    )


def _place(scene: Scene, point: list[float]) -> str:
    (x0, x1), (y0, y1) = scene["xlim"], scene["ylim"]
    left, top, width, height = _BOX
    x = left + (point[0] - x0) / (x1 - x0) * width
    y = top + (y1 - point[1]) / (y1 - y0) * height
    return f"{x:.2f},{y:.2f}"


def _ticks(spec: Figure, scene: Scene) -> str:
    left, top, width, height = _BOX
    parts = []
    for axis, (_, kind, count) in (("x", spec.x), ("y", spec.y)):
        low, high = scene[f"{axis}lim"]
        for i in range(count + 1):
            part = i / count
            if axis == "x":
                x, y = left + part * width, top + height
                line, at = f"M{x:.1f} {top}v{height}", (x, y + 22, "middle")
            else:
                y = top + (1 - part) * height
                line, at = f"M{left} {y:.1f}h{width}", (left - 6, y + 4, "end")
            text = _WRITE[kind](low + (high - low) * part)
            parts.append(
                f'<path class="grid" d="{line}"></path>'
                f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" '
                f'text-anchor="{at[2]}" data-axis="{axis}" '
                f'data-tick="{part:.6g}" data-format="{kind}">{text}</text>'
            )
    return "".join(parts)


def _svg(spec: Figure, scene: Scene, alt: str) -> str:
    left, top, width, height = _BOX
    curves = "".join(
        f'<path class="c {style}" data-curve="{name}" d="M'
        + "L".join(_place(scene, q) for q in scene["curves"][name])
        + '"></path>'
        for name, style, _ in spec.curves
    )
    marks = "".join(
        f'<g data-mark="{name}" transform="translate('
        f'{_place(scene, scene["marks"][name])})">'
        f"{_shape(style)}</g>"
        for name, style, _ in spec.marks
    )
    middle, centre = left + width / 2, top + height / 2
    inner = f'x="{left}" y="{top}" width="{width}" height="{height}"'
    # the inner svg clips the curves to the plotting area without an id
    return (
        f'<svg viewBox="0 0 {_SIZE[0]} {_SIZE[1]}" role="img" '
        f'data-box="{left} {top} {width} {height}" '
        f'aria-label="{escape(alt)}">{_ticks(spec, scene)}'
        f'<rect class="frame" {inner}></rect>'
        f'<svg {inner} viewBox="{left} {top} {width} {height}" '
        f'style="overflow:hidden">{curves}</svg>{marks}'
        f'<text x="{middle}" y="{top + height + 45}" text-anchor="middle">'
        f"{escape(spec.x[0])}</text>"
        f'<text transform="translate(13 {centre}) rotate(-90)" '
        f'text-anchor="middle">{escape(spec.y[0])}</text></svg>'
    )


def _shape(style: str) -> str:
    colour, shape = style.split()
    return _SHAPES[shape].format(colour)


def _legend(spec: Figure) -> str:
    line = '<path class="c {}" d="M1 7h28"></path>'
    items = [(line.format(s), words) for _, s, words in spec.curves]
    items += [
        (f'<g transform="translate(15 7)">{_shape(s)}</g>', words)
        for _, s, words in spec.marks
    ]
    rows = "".join(
        f'<li><svg viewBox="0 0 30 14" aria-hidden="true">{drawn}</svg>'
        f"<span>{escape(spelled(words))}</span></li>"
        for drawn, words in items
        if words
    )
    return f"<ul>{rows}</ul>"
