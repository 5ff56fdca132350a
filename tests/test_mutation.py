"""What mutmut leaves standing is read, and needs a reason."""

import json

import mutants

SHOWN = """\
# lib.toy.x__f__mutmut_2: survived
--- lib/toy.py
+++ lib/toy.py
@@ -1,2 +1,2 @@
 def f(a):
-    return a < 1
+    return a <= 1
"""
TOLD = """\
    lib.toy.x__f__mutmut_1: killed
    lib.toy.xǁToyǁsample__mutmut_12: survived
    lib.attacks.x_pgd__mutmut_3: no tests
"""


def test_states_are_read():
    assert dict(mutants.results("a heading\n" + TOLD)) == {
        "lib.toy.x__f__mutmut_1": "killed",
        "lib.toy.xǁToyǁsample__mutmut_12": "survived",
        "lib.attacks.x_pgd__mutmut_3": "no tests",
    }


KNOWN = {"the same": {"toy.x__f": ["return a <= 1"]}}


def test_a_survivor_is_explained_by_its_function_and_new_line():
    change = mutants.changed(SHOWN)
    assert change == ["- return a < 1", "+ return a <= 1"]
    name = "lib.toy.x__f__mutmut_2"
    assert mutants.explained(name, change, KNOWN) == "the same"
    for other in (
        {"the old line": {"toy.x__f": ["return a < 1"]}},
        {"another function": {"toy.x__g": ["return a <= 1"]}},
        {"another module": {"attacks.x__f": ["return a <= 1"]}},
        {},
    ):
        assert mutants.explained(name, change, other) is None


def test_totals_are_by_file_and_say_how_many_are_explained():
    states = dict(mutants.results(TOLD))
    left = {"killed": 0, "survived": 1, "explained": 1}
    assert mutants.totals(states, {"lib.attacks.x_pgd__mutmut_3"}) == {
        "lib/attacks.py": left | {"explained": 0},
        "lib/toy.py": left | {"killed": 1},
    }


def test_one_survivor_without_a_reason_fails(monkeypatch, tmp_path, capsys):
    reasons = tmp_path / "survivors.json"
    monkeypatch.setattr(mutants, "REASONS", reasons)
    monkeypatch.setattr(mutants, "_copy", lambda: None)
    monkeypatch.setattr(mutants.subprocess, "run", lambda *_, **__: None)
    monkeypatch.setattr(mutants, "_git", lambda *_: "abc")
    killed = "".join(
        f"lib.toy.x__g__mutmut_{k}: killed\n" for k in range(18)
    )
    told = {
        "results": killed + "lib.toy.x__f__mutmut_2: survived\n",
        "show": SHOWN,
    }
    monkeypatch.setattr(mutants, "_told", lambda what, *_: told[what])
    reasons.write_text(json.dumps(KNOWN), "utf-8")
    assert mutants.main([]) == 0
    assert "18 of 19 changes noticed (94.7%); 0 others" in (
        capsys.readouterr().out
    )
    reasons.write_text("{}", "utf-8")
    assert mutants.main(["--json", str(tmp_path / "run.json")]) == 1
    run = json.loads((tmp_path / "run.json").read_text("utf-8"))
    row = {"killed": 18, "survived": 1, "explained": 0}
    assert run["files"] == {"lib/toy.py": row} and run["commit"] == "abc"
    assert "NO REASON GIVEN" in capsys.readouterr().out
    reasons.write_text(json.dumps(KNOWN), "utf-8")
    told["results"] += "lib.toy.x__f__mutmut_3: survived\n"
    told["results"] += "lib.toy.x__f__mutmut_4: timeout\n"
    assert mutants.main([]) == 1  # 18 of 21 are fewer than nine in ten
