"""No stale number: what a record rests on, and who notices a change."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import record_models
import redigest
import stale

from lib import (
    confusion,
    data,
    experiments,
    freshness,
    results,
    sizes,
    toy_experiments,
)
from lib.recipes import Recipe

ROOT = stale.ROOT
MAIN = '''"""A run and its neighbours."""
from __future__ import annotations
from . import tables, parts
from .parts import Shape as Form

SIZE = 3


def run(settings: dict) -> dict:
    """What is recorded."""
    from .late import late
    if settings["n"] < 1:
        raise ValueError(f"n is {settings['n']}")
    return {"a": tables.WAYS[settings["way"]](SIZE) + late(), "b": Form()}


def caption() -> str:
    return "not part of a run"
'''
FILES = {
    "lib/main.py": MAIN,
    "lib/tables.py": (
        "from .parts import double, Shape\n"
        "WAYS = {'double': double}\nWAYS['same'] = lambda x: x\n"
        "OTHER = 5\n"
    ),
    "lib/parts.py": (
        "def double(x: int) -> int:\n    return 2 * x\n\n\n"
        "def half(x):\n    return x / 2\n\n\n"
        "class Shape:\n    side: int = 1\n\n    def area(self):\n"
        "        return helper(self.side)\n\n\n"
        "def helper(x):\n    return x**2\n"
    ),
    "lib/late.py": (
        "from math import floor\n"
        "from .way import ceiling\n\n\n"
        "def late():\n    return floor(1.5) + ceiling(1)\n"
    ),
    "lib/way.py": "from math import ceil as ceiling\n",
}


@pytest.fixture
def tree(tmp_path):
    """A small repository; ``tree(path, old, new)`` edits a file of it."""
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)

    def edit(path, old, new):
        text = (tmp_path / path).read_text()
        assert text.count(old) == 1, old
        (tmp_path / path).write_text(text.replace(old, new))

    edit.root = tmp_path
    return edit


def digests(root, path="lib/main.py", name="run"):
    freshness._source.cache_clear()
    freshness.digests.cache_clear()
    return dict(freshness.digests(path, name, root))


# --- what a run reaches ---------------------------------------------------


def test_a_run_is_followed_through_tables_imports_and_classes(tree):
    freshness._source.cache_clear()
    assert freshness.reached("lib/main.py", "run", tree.root) == {
        "lib/main.py": {"run", "SIZE"},
        "lib/tables.py": {"WAYS"},
        "lib/parts.py": {"double", "Shape", "helper"},
        "lib/late.py": {"late"},
        "lib/way.py": {"ceiling"},
    }
    with pytest.raises(KeyError, match="does not define walk"):
        freshness.reached("lib/main.py", "walk", tree.root)


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("lib/main.py", '"""What is recorded."""', '"""Words."""'),
        ("lib/main.py", "SIZE = 3", "# three\nSIZE = 3  # of them"),
        ("lib/main.py", "settings: dict) -> dict", "settings)"),
        ("lib/main.py", "SIZE = 3", "SIZE: int = 3"),
        ("lib/main.py", "SIZE = 3", "SIZE = cast(int, 3)"),
        ("lib/parts.py", "    return 2 * x", "    y: int\n    return 2 * x"),
        ("lib/parts.py", "    return 2 * x", "    assert x\n    return 2 * x"),
        ("lib/main.py", "n is {settings", "too few: {settings"),
        ("lib/main.py", "not part of", "still no part of"),
        ("lib/tables.py", "OTHER = 5", "OTHER = 6"),
        ("lib/parts.py", "return x / 2", "return x / 3"),
        ("lib/parts.py", "2 * x", "(2 *\n        x)"),
    ],
)
def test_what_can_change_no_number_leaves_the_digests(tree, path, old, new):
    before = digests(tree.root)
    tree(path, old, new)
    assert digests(tree.root) == before


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("lib/main.py", "SIZE = 3", "SIZE = 4"),
        ("lib/main.py", '["n"] < 1', '["n"] < 2'),
        ("lib/main.py", ") + late()", ") - late()"),
        ("lib/tables.py", "lambda x: x", "lambda x: -x"),
        ("lib/tables.py", "'double': double", "'double': abs"),
        ("lib/parts.py", "2 * x", "3 * x"),
        ("lib/parts.py", "side: int = 1", "side: int = 2"),
        ("lib/parts.py", "x**2", "x**3"),
        ("lib/late.py", "floor(1.5)", "floor(2.5)"),
    ],
)
def test_what_can_change_a_number_is_noticed_in_its_file(
    tree, path, old, new
):
    before = digests(tree.root)
    tree(path, old, new)
    after = digests(tree.root)
    changed = {name for name in before | after
               if before.get(name) != after.get(name)}  # fmt: skip
    assert path in changed


TOP = "from math import floor\n"
NUMPY = "from numpy import floor\n"


@pytest.mark.parametrize(
    "edits",
    [
        # from the top into the function, and the other way round
        [("lib/main.py", "import tables, parts", "import parts"),
         ("lib/main.py", "    if settings", "    from . import tables\n"
          "    if settings")],
        [("lib/main.py", "    from .late import late\n", ""),
         ("lib/main.py", "\nSIZE", "from .late import late\n\nSIZE")],
        [("lib/late.py", TOP, ""),
         ("lib/late.py", "    return", f"    {TOP}    return")],
        # under another name, or with its module
        [("lib/late.py", TOP, "import math as m\n"),
         ("lib/late.py", "floor(1.5)", "m.floor(1.5)")],
        [("lib/main.py", "Shape as Form", "Shape"),
         ("lib/main.py", "Form()", "parts.Shape()")],
        # imports that nothing here uses
        [("lib/late.py", TOP, f"{TOP}import json\n")],
        [("lib/late.py", "    return", "    import json\n    return")],
    ],
)  # fmt: skip
def test_where_an_import_stands_changes_nothing(tree, edits):
    before = digests(tree.root)
    for edit in edits:
        tree(*edit)
    assert digests(tree.root) == before


@pytest.mark.parametrize(
    ("path", "old", "new"),
    [
        ("lib/late.py", "from math", "from numpy"),
        ("lib/late.py", "import floor", "import ceil as floor"),
        ("lib/late.py", "    return", f"    {NUMPY}    return"),
        ("lib/way.py", "from math", "from numpy"),
        ("lib/main.py", "from .late import late", "from .parts import half as "
         "late"),
        ("lib/tables.py", "import double,", "import half as double,"),
    ],
)  # fmt: skip
def test_a_name_that_comes_from_elsewhere_is_noticed(tree, path, old, new):
    before = digests(tree.root)
    tree(path, old, new)
    assert digests(tree.root).get(path) != before[path]


def test_a_variable_is_not_the_import_whose_name_it_has():
    text = freshness.Text(
        "import a, b\n"
        "def hides(a, *b): return a.x, b.y\n"
        "def stores():\n    for a in range(3): print(a.x)\n"
        "def both(): return [a.x for a in a.y if a.z]\n"
        "def default(a=a.x): return lambda b=b.y: (a.z, b.z)\n"
        "class Field:\n    a = 1\n    def method(self): return a.x\n"
        "def named(): return [a := 1 for _ in b.x], a.x\n"
        "def catches():\n    try: b.x\n    except ValueError as a: a.x\n"
        "def fills():\n    global a\n    a = a or 1\n"
        "def local():\n    import c as a\n    def g(): return a.x\n"
        "def either():\n    try: import c as b\n"
        "    except ImportError: import d as b\n    b.x\n"
    )
    assert {name: text.read(name).imported for name in text.defs} == {
        "hides": set(), "stores": set(), "both": {"a.y"},
        "default": {"a.x", "b.y"}, "Field": {"a.x"}, "named": {"b.x"},
        "catches": {"b.x"}, "fills": {"a"}, "local": {"c.x"},
        "either": {"c.x", "d.x"},
    }  # fmt: skip


TINY = Recipe(
    "linear", "adversarial", eps=0.1, steps=1, epochs=1, batch_size=20
)
RUNS = {
    "train_and_attack": lambda: experiments.train_and_attack(
        experiments.Point(
            TINY, n_train=40, n_test=10, attacks=(("linf", 0.1),), steps=2,
            n_curve=5, keep_weights=True,
        )
    ),
    "train_and_measure": lambda: sizes.train_and_measure(
        sizes.SizePoint(
            TINY, "mnist", 40, 20, 4, (("l2", 0.5),), keep_images=True,
            also=("weak", "strong"),
        )
    ),
    "confusion.measure": lambda: confusion.measure(
        confusion.Confusion(
            (("training-mnist/standard-seed0", "l2", 1.0),), n=4, steps=1
        )
    ),
    "lemmas": lambda: toy_experiments.lemmas(
        {"m": 4, "d": 20, "p": [0.95], "lam": 0.01, "eps": [0.1]}
    ),
}  # fmt: skip
PLACES = {
    "train_and_attack": ("lib/experiments.py", "train_and_attack"),
    "train_and_measure": ("lib/sizes.py", "train_and_measure"),
    "confusion.measure": ("lib/confusion.py", "measure"),
    "lemmas": ("lib/toy_experiments.py", "lemmas"),
}


def called(run) -> set[tuple[str, int]]:
    """Files of ``lib`` and lines of all functions that a run calls."""
    seen = set()

    def note(frame, event, _arg):
        code = frame.f_code
        if event == "call" and code.co_name != "<module>":
            seen.add((code.co_filename, code.co_firstlineno))

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    lib = ROOT / "lib"
    return {
        (Path(file).name, line) for file, line in seen
        if Path(file).parent == lib
    }  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_nothing_is_called_that_was_not_reached(
    name, monkeypatch, plain_environment
):
    """The promise behind it all, held against what really runs."""
    monkeypatch.setenv("BOOK_RUN", "smoke")
    data._embedded_mnist()  # slow to read while being watched
    freshness._source.cache_clear()
    reached = freshness.reached(*PLACES[name])
    lines = set()
    for file, names in reached.items():
        defs = freshness._source(ROOT, file).text.defs
        for node in (n for each in names for n in defs.get(each, [])):
            first = [node.lineno, *(
                d.lineno for d in getattr(node, "decorator_list", [])
            )]  # fmt: skip
            for line in range(min(first), (node.end_lineno or 0) + 1):
                lines.add((Path(file).name, line))
    ran = called(RUNS[name])
    assert len(ran) > 5, "nothing of lib was called: the check is blind"
    assert ran <= lines, sorted(ran - lines)


# --- which function made which record -------------------------------------


def calls_in_the_book():
    """(name or its beginning, file:function) of every load_or_run."""
    for path in sorted((ROOT / "book").glob("*.ipynb")):
        known = {}
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type != "code":
                continue
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.ImportFrom) and node.module == "lib":
                    for each in node.names:
                        known[each.asname or each.name] = each.name
                if not isinstance(node, ast.Call) or len(node.args) != 3:
                    continue
                if not ast.unparse(node.func).startswith("results.load_or_r"):
                    continue
                name, _, run = node.args
                if isinstance(name, ast.JoinedStr):
                    name = name.values[0]
                module = known[run.value.id]
                yield name.value.rstrip("/"), f"lib/{module}.py:{run.attr}"


def test_the_functions_are_those_that_the_book_names():
    said = list(calls_in_the_book())
    assert len(said) > 20
    for name, place in said:
        places = {
            where for pattern, where in stale.EXPERIMENTS.items()
            if pattern == name or pattern.startswith(f"{name}/")
        }  # fmt: skip
        assert place in places, f"tools/stale.py does not know {name}"
    for name, (_, run) in record_models.points().items():
        place = stale.EXPERIMENTS[stale.family_of(name)]
        module = run.__module__.replace(".", "/")
        assert place == f"{module}.py:{run.__name__}", name


def test_every_function_is_there_and_every_record_has_one():
    for place in stale.EXPERIMENTS.values():
        assert freshness.digests(*place.split(":"))
    for path in (ROOT / "results").rglob("*.json"):
        name = path.relative_to(ROOT / "results").as_posix()
        if name != stale.COUNTS:
            stale.family_of(name.removesuffix(".json"))
    with pytest.raises(SystemExit, match="nobody knows which function"):
        stale.family_of("new/record")


# --- fresh or stale -------------------------------------------------------

NET = "training-mnist/standard-seed0"
LOOK = "gradients/mnist"
TOY = "toy-training/lemmas"


@pytest.fixture(scope="module")
def vouched(tmp_path_factory):
    """A copy of lib with three records and a lock that vouches for them."""
    root = tmp_path_factory.mktemp("vouched") / "root"
    shutil.copytree(
        ROOT / "lib", root / "lib",
        ignore=shutil.ignore_patterns("__pycache__"),
    )  # fmt: skip
    lock = {}
    for name in (NET, LOOK, TOY):
        file = root / "results" / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "results" / f"{name}.json", file)
    for name, state in looked(root).items():
        lock[state.family] = {
            "records_of": [state.content["code"]["lib_sha256"]],
            "made_of": state.now,
        }
        assert state.how == "stale", f"{name}: nobody has vouched yet"
    stale.write_lock(lock, {}, root)
    stale.note(["*"], root)
    return root


@pytest.fixture
def copy(vouched, tmp_path):
    """The same to be changed."""
    return shutil.copytree(vouched, tmp_path / "root")


def looked(root):
    freshness._source.cache_clear()
    freshness.digests.cache_clear()
    return stale.states(root)


def change(root, path, old, new):
    text = (root / path).read_text("utf-8")
    assert text.count(old) == 1, f"{path} has {text.count(old)} of {old}"
    (root / path).write_text(text.replace(old, new), "utf-8")


def rewrite(root, name, **changes):
    file = root / "results" / f"{name}.json"
    content = json.loads(file.read_text("utf-8"))
    content.update(changes)
    file.write_text(json.dumps(content), "utf-8")


def test_vouched_records_are_fresh_until_the_code_changes(copy):
    assert {s.how for s in looked(copy).values()} == {"vouched"}
    change(copy, "lib/norms.py", "def project(", "X = 1\n\n\ndef project(")
    assert {s.how for s in looked(copy).values()} == {"vouched"}
    change(copy, "lib/seeing.py", "0.5 * (gap == 0)", "0.4 * (gap == 0)")
    seen = looked(copy)
    assert seen[LOOK].changed == ("lib/seeing.py",)
    assert {seen[NET].how, seen[TOY].how} == {"vouched"}


def test_a_stale_network_makes_what_rests_on_it_stale(copy):
    change(copy, "lib/training.py", "loss.backward()", "(2*loss).backward()")
    seen = looked(copy)
    assert seen[NET].changed == ("lib/training.py",)
    assert seen[LOOK].changed == (f"{NET} (stale itself)",)
    assert seen[TOY].how == "vouched"


def test_a_network_trained_anew_makes_what_rests_on_it_stale(copy):
    rewrite(copy, NET, arrays_sha256="0" * 64)
    seen = looked(copy)
    assert seen[NET].how == "vouched"
    assert seen[LOOK].changed == (NET,)


def test_a_record_of_unknown_code_is_stale(copy):
    code = {"lib_sha256": "f" * 64}
    rewrite(copy, TOY, code=code)
    assert "not known" in looked(copy)[TOY].changed[0]
    now = looked(copy)[TOY].now
    rewrite(copy, TOY, code=code | {"made_of": now})
    assert looked(copy)[TOY].how == "made"
    older = now | {"lib/toy.py": "0" * 12}
    rewrite(copy, TOY, code=code | {"made_of": older})
    assert looked(copy)[TOY].changed == ("lib/toy.py",)


def test_the_command_names_what_changed_and_what_to_do(copy, capsys):
    assert stale.main([], copy) == 0
    assert "3 vouched for, 0 stale; 0 not as" in capsys.readouterr().out
    change(copy, "lib/toy.py", "import math\n", "import math\nX = 1\n")
    change(copy, "lib/toy_svm.py", "def h(", "def h_(")
    change(copy, "lib/toy_svm.py", "def threshold(", "h = h_\ndef threshold(")
    looked(copy)
    assert stale.main([], copy) == 1
    told = capsys.readouterr().out
    assert f"1 stale: {TOY}\n  changed: lib/toy_svm.py" in told
    assert "make audit ONLY='toy-training/lemmas' VOUCH=" in told
    assert stale.main(["grad*"], copy) == 0
    (copy / "results" / f"{TOY}.json").write_text("{")
    with pytest.raises(SystemExit, match="is damaged"):
        stale.main([], copy)


# --- what records held when they were noted -------------------------------


def test_a_number_changed_by_hand_is_named_and_what_to_do(copy, capsys):
    file = copy / "results" / f"{NET}.json"
    content = json.loads(file.read_text("utf-8"))
    content["values"]["standard"]["correct"] += 1
    file.write_text(json.dumps(content), "utf-8")
    assert stale.main([], copy) == 1
    told = capsys.readouterr().out
    assert f"results/{NET}.json is changed" in told
    assert f"make note ONLY='{NET}'" in told and "0 stale; 1 not" in told
    assert stale.main(["toy-*"], copy) == 0
    content["values"]["standard"]["correct"] -= 1
    file.write_text(json.dumps(content), "utf-8")
    assert stale.main([], copy) == 0, "only what it says counts"


@pytest.mark.parametrize(
    "change", [{"settings": {}}, {"arrays_sha256": "0"}, {"created": "now"}]
)
def test_anything_that_a_record_says_is_part_of_its_digest(copy, change):
    rewrite(copy, TOY, **change)
    assert stale.changes(["*"], copy) == {TOY: "changed"}


def test_a_record_that_was_made_anew_is_noted_by_name(copy, capsys):
    rewrite(copy, NET, created="today")
    rewrite(copy, TOY, created="today")
    (copy / "results" / f"{LOOK}.json").unlink()
    shutil.copy(
        copy / "results" / f"{TOY}.json",
        copy / "results" / "toy-training/noise.json",
    )
    assert stale.changes(["*"], copy) == {
        NET: "changed", TOY: "changed", LOOK: "gone",
        "toy-training/noise": "new",
    }  # fmt: skip
    capsys.readouterr()
    assert stale.main(["--note", "toy-*", LOOK], copy) == 0
    assert stale.changes(["*"], copy) == {NET: "changed"}
    told = capsys.readouterr().out.splitlines()
    assert told[0] == f"noted: results/{LOOK}.json (gone)" and len(told) == 3
    with pytest.raises(SystemExit, match="Name records"):
        stale.main(["--note"], copy)


def test_a_new_record_names_what_it_rests_on(monkeypatch, tmp_path):
    monkeypatch.setenv("BOOK_RUN", "full")
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    settings = {"m": 4, "d": 20, "p": [0.95], "lam": 0.01, "eps": [0.1]}
    record = results.load_or_run(TOY, settings, toy_experiments.lemmas)
    freshness._source.cache_clear()
    freshness.digests.cache_clear()
    place = stale.EXPERIMENTS[TOY].split(":")
    assert record.code["made_of"] == freshness.digests(*place)
    other = results.load_or_run("x", {}, lambda settings: {"a": 1})
    assert "made_of" not in other.code, "not a function of the repository"


def test_networks_in_settings_are_found_wherever_they_are():
    content = json.loads((ROOT / "results" / f"{NET}.json").read_text())
    digest = content["arrays_sha256"][:12]
    found = freshness.weights_of(
        {"a": [["standard", NET]], "b": {"c": "no/such"}, "d": 3, "e": NET},
        ROOT / "results",
    )
    assert found == {NET: digest}


# --- another way of taking digests ----------------------------------------


@pytest.fixture(scope="module")
def other_way(vouched, tmp_path_factory):
    """A commit with another way; one of its records names its code itself."""
    root = tmp_path_factory.mktemp("other") / "root"
    shutil.copytree(vouched, root)
    change(root, "lib/freshness.py", ".hexdigest()[:12]", ".hexdigest()[9:21]")
    (root / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "stale.py", root / "tools")
    command = [sys.executable, "-c", redigest.ASK]
    told = json.loads(subprocess.check_output(command, cwd=root))["rests_on"]
    lock = stale.read_lock(root)
    for family, voucher in lock.items():
        voucher["made_of"] |= told[stale.EXPERIMENTS[family]]
    del lock[TOY]
    stale.write_lock(lock, {}, root)
    rewrite(root, TOY, code={
        "lib_sha256": "f" * 64, "made_of": told[stale.EXPERIMENTS[TOY]],
    })  # fmt: skip
    commit(root)
    return root


@pytest.fixture
def older(other_way, tmp_path):
    """The same to be changed."""
    return shutil.copytree(other_way, tmp_path / "root")


def commit(root):
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "One"]):
        subprocess.run(["git", *who, *words], cwd=root, check=True)


def test_digests_are_carried_over_to_another_way_of_taking_them(older):
    assert {s.how for s in looked(older).values()} == {"stale"}
    assert redigest.main(["HEAD"], older) == 0
    seen = looked(older)
    assert {seen[NET].how, seen[LOOK].how} == {"vouched"}
    assert seen[TOY].how == "made"
    change(older, "lib/toy_svm.py", "def h(", "def h_(")
    change(older, "lib/seeing.py", "0.5 * (gap == 0)", "0.4 * (gap == 0)")
    seen = looked(older)
    assert seen[TOY].changed == ("lib/toy_svm.py",)
    assert seen[LOOK].changed == ("lib/seeing.py",)
    assert seen[NET].how == "vouched"


def test_nothing_stale_is_carried_over(older):
    change(older, "lib/seeing.py", "0.5 * (gap == 0)", "0.4 * (gap == 0)")
    commit(older)
    before = (older / "results" / stale.LOCK).read_text()
    with pytest.raises(SystemExit, match=f"stale before: {LOOK}$"):
        redigest.main(["HEAD"], older)
    assert (older / "results" / stale.LOCK).read_text() == before


def test_a_lock_that_is_not_the_commit_s_is_left_alone(older):
    stale.write_lock({}, {}, older)
    with pytest.raises(SystemExit, match="is not that of HEAD"):
        redigest.main(["HEAD"], older)
    assert stale.read_lock(older) == {}
