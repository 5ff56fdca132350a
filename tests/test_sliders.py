"""The interactive figures: one truth in two languages, alive in a browser.

The scripts run in node where it is installed, else in a headless Chromium;
on a machine with neither those tests are reported as skipped.
"""

import html
import itertools
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from headless import browser, dumped, needs_browser

from lib import sliders, sliders_scenes
from lib.toy import Toy

SCRIPT = (sliders._HERE / "sliders.js").read_text(encoding="utf-8")
GRID = {
    "p": (0.55, 0.8, 0.95, 0.99), "m": (0.5, 1.7, 3.0, 5.0),
    "log_d": (2.1, 3.0), "ratio": (0.0, 0.75, 1.0, 2.0, 3.0),
    "tau": (0.0, 0.6, 2.0, 7.0), "eps": (0.0, 0.05, 0.3, 0.99, 1.0, 1.2),
}


def evaluate(expression, folder):
    """JSON value of a JavaScript ``expression`` that uses toySliders."""
    code = f"{SCRIPT}\nconst answer = JSON.stringify({expression});"
    node = shutil.which("node")
    if node:
        path = folder / "run.js"
        path.write_text(code + "\nconsole.log(answer);", encoding="utf-8")
        done = subprocess.run([node, path], capture_output=True, text=True,
                              timeout=60, check=True)
        return json.loads(done.stdout)
    if browser():
        page = (f"<meta charset=utf-8><pre></pre><script>{code}\n"
                "document.querySelector('pre').textContent = answer;"
                "</script>")
        text = re.search(r"<pre>(.*?)</pre>", dumped(page, folder), re.S)
        return json.loads(html.unescape(text[1]))
    pytest.skip("neither node nor a Chromium browser is on this machine")


def settings_of(name):
    keys = [c.name for c in sliders.FIGURES[name].controls]
    values = itertools.product(*(GRID[key] for key in keys))
    return [dict(zip(keys, v, strict=True)) for v in values]


def numbers(scene):
    """All numbers of a scene in one array, in a fixed order."""
    parts = [scene["xlim"], scene["ylim"]]
    for group in ("curves", "marks"):
        parts += [scene[group][k] for k in sorted(scene[group])]
    parts += [[scene["values"][k]] for k in sorted(scene["values"])]
    return np.concatenate([np.ravel(np.asarray(p, float)) for p in parts])


# --- the formulas --------------------------------------------------------


@pytest.mark.parametrize("name", list(sliders.FIGURES))
def test_script_and_library_agree(name, tmp_path):
    settings = settings_of(name)[::3]
    # sums and samples of a scene are enough to compare and quick to send
    got = evaluate(
        f"{json.dumps(settings)}.map(toySliders.scenes.{name})", tmp_path
    )
    assert len(got) == len(settings) > 40
    for given, theirs in zip(settings, got, strict=True):
        ours = sliders_scenes.SCENES[name](**given)
        for group in ("curves", "marks", "values"):
            assert theirs[group].keys() == ours[group].keys()
        a, b = numbers(theirs), numbers(ours)
        assert a.shape == b.shape and np.isfinite(b).all()
        assert np.abs(a - b).max() < 1e-6, given


def test_normal_distribution_function_of_the_script(tmp_path):
    u = np.linspace(-12, 12, 481).tolist()
    got = np.array(evaluate(f"{u}.map(toySliders.Phi)", tmp_path))
    expected = Toy(1, 0.5, 0.0).gate_accuracy(0.0)  # Phi(0)
    assert got[240] == expected == 0.5
    from scipy.special import ndtr
    assert np.abs(got / ndtr(u) - 1).max() < 1e-11


def test_closed_forms_of_the_script(tmp_path):
    got = evaluate(
        "[0.1, 0.3, 1].map((e) => { const t = toySliders.toy(100, .95, .3);"
        " return [t.best(e), t.gate(Infinity, e), t.linear(2, e),"
        " t.bound(e), t.slack(e)]; })", tmp_path,
    )
    toy = Toy(100, 0.95, 0.3)
    for eps, row in zip((0.1, 0.3, 1.0), got, strict=True):
        expected = [
            toy.best_robust_accuracy(eps),
            toy.gate_accuracy(float("inf"), eps),
            toy.linear_accuracy(2.0, eps), toy.bound(eps), toy.slack(eps),
        ]
        assert row == pytest.approx(expected, abs=1e-12)


# --- the page ------------------------------------------------------------


@pytest.mark.parametrize("name", list(sliders.FIGURES))
def test_page_is_accessible_and_stands_alone(name):
    page = sliders.figure(name)._repr_html_()
    inputs = re.findall(r"<input[^>]*>", page)
    assert len(inputs) == len(sliders.FIGURES[name].controls)
    for tag in inputs:
        assert 'type="range"' in tag
        assert 'data-lm-suppress-shortcuts="true"' in tag
        key = re.search(r' id="([^"]+)"', tag)[1]
        assert f'<label for="{key}">' in page
        assert f'<output for="{key}"' in page
    assert re.search(r'<svg [^>]*role="img"[^>]*aria-label="[^"]{80,}"', page)
    assert "http" not in page.replace("http://www.w3.org", "")
    assert not re.search(r"(src|href|@import|url\()", page)
    assert len(page) < 40_000
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert page.count("<div") == page.count("</div>")


def test_ids_follow_from_the_content():
    one, same = (sliders.figure("plane")._repr_html_() for _ in "ab")
    other = sliders.figure("plane", tau=1)._repr_html_()
    key = re.compile(r' id="(toy-[0-9a-f]{8})-')
    assert one == same
    assert set(key.findall(one)).isdisjoint(key.findall(other))


def test_the_figure_is_there_without_a_script():
    page = sliders.figure("plane", tau=3)._repr_html_()
    static = page.split("<script>")[0]
    assert "97.50\u00a0%" in static and "47.50\u00a0%" in static
    assert '<div class="controls" data-needs-script hidden>' in static
    assert len(re.findall(r'data-curve="\w+" d="M[\d.,L-]{10,}"', static)) == 4


@pytest.mark.parametrize("name", list(sliders.FIGURES))
def test_labels_of_the_two_axes_keep_apart(name):
    """The lowest one beside the plot and the leftmost one below it."""
    made = sliders.figure(name)._repr_html_()
    places = re.findall(
        r'<text x="([\d.]+)" y="([\d.]+)" text-anchor="\w+" data-axis="(.)"',
        made,
    )
    below = min(float(y) for _, y, axis in places if axis == "x")
    beside = max(float(y) for _, y, axis in places if axis == "y")
    assert below - beside >= 17, "a line of 14 pixels and a gap"
    middles = re.findall(r'<text x="[\d.]+" y="(\d+)" text-anchor="mid', made)
    assert max(map(int, middles)) - below >= 17
    assert max(map(int, middles)) + 4 <= sliders._SIZE[1]


def test_features_have_a_small_number():
    made = sliders.figure("plane")._repr_html_()
    assert "τ·x₁ + z" in made and ">x1 alone<" not in made


def test_plain_text_says_what_is_seen():
    text = repr(sliders.figure("budget", eps=0.3))
    assert "95.00\u00a0%" in text and "{" not in text


@pytest.mark.parametrize("name, start", [
    ("nothing", {}), ("plane", {"eps": 0.1}), ("plane", {"p": 1.0}),
    ("plane", {"tau": -1}), ("budget", {"eps": float("nan")}),
])
def test_wrong_figures_and_settings_are_refused(name, start):
    with pytest.raises(ValueError):
        sliders.figure(name, **start)


# --- in a browser --------------------------------------------------------

MOVED = {
    "shift": {"p": 0.8, "m": 4.0, "log_d": 2.0, "ratio": 0.5, "tau": 1.0},
    "plane": {"p": 0.75, "m": 1.5, "log_d": 4.0, "tau": 3.0},
    "budget": {"p": 0.8, "m": 2.0, "log_d": 1.5, "eps": 0.35, "tau": 0.5},
}


def drawn(page):
    """Coordinates of curves and marks, and the texts, in ``page``."""
    page = page.split("<script>")[0]
    lines = re.findall(r'data-curve="(\w+)" d="M([^"]*)"', page)
    marks = re.findall(r'data-mark="(\w+)" transform="translate\(([^)]*)',
                       page)
    points = {
        key: np.array([q.split(",") for q in text.split("L")], float)
        for key, text in lines + marks
    }
    texts = re.findall(r"<(?:b|output|text)\b[^>]*>([^<]*)<", page)
    return points, [html.unescape(t) for t in texts]


def compare(page, expected):
    points, texts = drawn(page)
    right, right_texts = drawn(expected)
    assert points.keys() == right.keys() and points
    for key, line in right.items():
        assert np.abs(points[key] - line).max() < 0.011, key
    assert texts == right_texts and len(texts) > 15


@needs_browser
@pytest.mark.parametrize("name", list(sliders.FIGURES))
def test_moved_sliders_show_what_the_library_computes(name, tmp_path):
    moves = json.dumps(MOVED[name])
    drive = f"""<script>
      const moves = {moves};
      for (const input of document.querySelectorAll("input")) {{
        input.value = moves[input.name];
        input.dispatchEvent(new Event("input", {{ bubbles: true }}));
      }}
      document.body.dataset.leaked = typeof window.toySliders;
    </script>"""
    start = sliders.figure(name)._repr_html_()
    page = dumped(f"<!doctype html><meta charset=utf-8>{start}{drive}",
                  tmp_path)
    expected = sliders.figure(name, **MOVED[name])._repr_html_()
    compare(page, expected)
    with pytest.raises(AssertionError):
        compare(page, start)
    assert 'data-leaked="undefined"' in page
    assert re.search(r'class="controls" data-needs-script="">', page)
    for value in re.findall(r'aria-valuetext="([^"]*)"', page):
        assert html.unescape(value) in drawn(page)[1]


@needs_browser
def test_starting_and_going_back_leave_the_static_figure(tmp_path):
    first = "".join(sliders.figure(n)._repr_html_() for n in sliders.FIGURES)
    drive = """<script>
      for (const input of document.querySelectorAll("input")) {
        input.value = input.max;
        input.dispatchEvent(new Event("input"));
      }
      document.querySelectorAll("button").forEach((b) => b.click());
    </script>"""
    pages = {
        end: dumped(f"<!doctype html><meta charset=utf-8>{first}{end}",
                    tmp_path)
        for end in ("", drive)
    }
    for page in pages.values():
        assert page.count('data-live="yes"') == 3
        blocks = page.split('class="toy-sliders"')[1:]
        for block, name in zip(blocks, sliders.FIGURES, strict=True):
            compare(block, sliders.figure(name)._repr_html_())
