"""The tables and sentences of the size sweep say what the records hold."""

from dataclasses import replace

import pytest
from swept import made_up, photographs

from lib import page, size_pages, size_plots, sizes, stats
from lib.results import Record
from lib.size_readings import SizeGrid
from lib.sizes import Longer
from lib.stats import Mean

TURN = {30: 4, 100: -2}


def cells(made):
    """The lines of a table's plain form, split; without the caption."""
    assert isinstance(made, page.Html)
    caption, *lines = repr(made).splitlines()
    return caption, [line.split(" | ") for line in lines]


@pytest.mark.parametrize(
    "low, high, sign", [(0.1, 0.3, "+"), (-0.3, -0.1, "−"), (-0.1, 0.3, "0")]
)
def test_a_mark_is_a_sign_beyond_noise(low, high, sign):
    assert size_pages.mark(Mean((low + high) / 2, low, high, 5)) == sign


def test_gains_are_told_with_their_signs():
    caption, (header, few, many) = cells(size_pages.gains(made_up(TURN)))
    assert header == ["n", "l2 1.5", "l∞ 0.3"]
    # 4 points and a tenth for every other seed; -2 points likewise
    assert few == ["30", "+4.03 (+)", "+4.03 (+)"]
    assert many == ["100", "-1.97 (−)", "-1.97 (−)"]
    assert "3 seeds" in caption


def test_one_seed_says_that_it_covers_no_other():
    one = made_up(TURN, seeds=1)
    assert "not other seeds" in size_pages.over(one)
    assert "not other seeds" in cells(size_pages.gains(one))[0]
    told = cells(size_pages.budget(one.sweep))[0]
    assert "2 PGD steps of 1.25 eps, 1 seed; " in told
    assert "Network small_cnn (166,406 weights)" in told
    assert told.endswith("over the first 30% of the updates.")


def test_one_step_is_called_by_its_name():
    sweep = made_up(TURN).sweep
    one = replace(sweep, recipe=replace(sweep.recipe, steps=1))
    told = cells(size_pages.budget(one))[0]
    assert "one step (FGSM) of 2.5 eps, 3 seeds" in told


def test_a_budget_says_whether_epochs_end_it():
    sweep = made_up(TURN).sweep
    assert "about 15 updates. " in cells(size_pages.budget(sweep))[0]
    few = replace(sweep, most_epochs=3)  # 15 are needed at these sizes
    assert "about 15 updates, or 3 epochs if these are fewer." in (
        cells(size_pages.budget(few))[0]
    )


def test_photographs_have_radii_of_255():
    grid = photographs(TURN)
    sweep = replace(grid.sweep, eps={"linf": (8 / 255,)})
    assert size_pages.called(("linf", 8 / 255), sweep.dataset) == "l∞ 8/255"
    with pytest.raises(KeyError):  # no such network: nothing is made up
        size_pages.gains(SizeGrid(sweep, grid.records))


def test_crossings_count_the_seeds():
    _, (_, row, _) = cells(size_pages.crossings(made_up(TURN)))
    cross = made_up(TURN).crossing(("l2", 1.5))
    assert row == [
        "l2 1.5", f"{cross.middle:,.0f}",
        f"{cross.low:,.0f} to {cross.high:,.0f}", "3 of 3", "0", "0",
    ]  # fmt: skip
    always = {30: 4, 100: 2}
    _, (_, row, _) = cells(size_pages.crossings(made_up(always)))
    assert row == ["l2 1.5", "–", "–", "0 of 3", "3", "0"]


def test_a_crossing_of_some_seeds_only_is_counted_and_not_placed():
    grid = made_up({30: 4, 100: -0.05}, seeds=3)  # one seed gains a tenth
    _, (_, row, _) = cells(size_pages.crossings(grid))
    assert row == ["l2 1.5", "–", "–", "2 of 3", "1", "0"]


@pytest.mark.parametrize(
    "gain, told",
    [
        (TURN, "at 30 digits; harm at the full size is beyond noise"),
        ({30: -4, 100: 2}, "at 100 digits; harm at the full size is not"),
        ({30: -4, 100: -2}, "noise at no size; harm at the full size is b"),
    ],
)
def test_help_and_harm_in_words(gain, told):
    said = size_pages.help_and_harm(made_up(gain), "linf")
    assert said.startswith("l∞ 0.3: help beyond noise") and told in said


def test_missing_is_robust_first():
    grid = made_up({30: 0, 100: 0}, robust={30: 50, 100: 700})
    _, (header, row, _) = cells(size_pages.missing(grid))
    assert header == ["ball", "30"]
    # 70 - 5 points of robust accuracy, 80 - 50 of standard
    assert row == ["l2 1.5", "65.0 / 30.0"]
    assert size_pages.missing_more(grid).endswith("at 2 of 2 pairs of ball "
                                                  "and size.")
    near = made_up({30: 0, 100: 0}, robust={30: 650, 100: 700})
    said = size_pages.missing_more(near)
    assert "at 0 of 2" in said
    assert said.endswith("not in l2 1.5 at n = 30 and l∞ 0.3 at n = 30.")


def test_many_exceptions_are_counted_and_not_named(monkeypatch):
    near = made_up({30: 0, 100: 0}, robust={30: 650, 100: 700})
    monkeypatch.setattr(size_pages, "NAMED", 1)
    assert size_pages.missing_more(near).endswith("0 of 2 pairs of ball and "
                                                  "size.")


def test_shares_are_of_the_full_data_value():
    grid = made_up({30: 0, 100: 0}, robust={30: 70, 100: 700})
    _, (header, plain, first, _) = cells(size_pages.shares(grid))
    assert header == ["training", "30"]
    assert plain == ["standard", "63"] and first == ["l2 1.5", "10"]
    none = made_up({30: 0, 100: 0}, robust={30: 0, 100: 0})
    assert cells(size_pages.shares(none))[1][2][1] == "nan"
    assert "nothing in l2 1.5" in size_pages.reached(none, 30)


@pytest.fixture
def table_4():
    """A grid whose weak attack leaves 20 of 1,000 images too many."""
    grid = made_up(TURN, robust={30: 50, 100: 700})
    for record in grid.records.values():
        for row in record.values["robust"]:
            if row["protocol"] == "weak":
                row["correct"] = 720
    return grid


def test_what_part_is_reached():
    grid = made_up({30: 0, 100: 0}, robust={30: 70, 100: 700})
    said = size_pages.reached(grid, 30)
    # 51 of 81 % in the mean over seeds; 7 of 70 %
    assert "With 30 digits standard training has reached 63%" in said
    assert "10% in l2 1.5 and 10% in l∞ 0.3" in said


def test_drops_stand_beside_the_paper_s():
    said = size_pages.drops(made_up({30: 0, 100: -8}))
    assert said.count("by -7.97 [") == 2
    # 99.24 - 99.31, and 97.37 - 99.31
    assert "in l2 1.5 (the paper's: by -0.07 [recalled]) and by" in said
    assert said.endswith("in l∞ 0.3 (the paper's: by -1.94 [recalled]).")


def test_table_4_has_three_trainings_and_two_attacks(table_4):
    grid = table_4
    caption, (header, row, _) = cells(size_pages.table4_robust(grid))
    assert header[1:4] == ["standard", "half-half", "robust"]
    for cell in row[1:4]:
        assert cell == "72.0 / 70.0"
    # Wilson's interval for 700 of 1,000, which all seeds agree on
    assert "reach at most 2.9 to each side" in caption
    assert "weak attack / quick" in caption  # the claim of the tiny sweep
    assert "3 seeds (half-half: 1)" in caption
    _, (_, row, _) = cells(size_pages.table4_standard(grid))
    robust = stats.over_seeds(grid.standard("pgd", ("l2", 1.5), 100))
    assert row[3] == robust.plus_minus(1)
    assert row[4] == "99.31 / 99.29 / 99.24"  # the paper's, MNIST, l2 1.5
    none = SizeGrid(replace(grid.sweep, half_seeds=0), grid.records)
    caption, (header, _, _) = cells(size_pages.table4_standard(none))
    assert header == ["ball", "standard", "robust", "paper [recalled]"]
    assert "half-half:" not in caption


def test_half_half_stands_beside_robust_training_on_the_same_seeds():
    grid = made_up(TURN)
    grid = SizeGrid(replace(grid.sweep, half_seeds=2), grid.records)
    for ball in grid.sweep.balls:
        for seed, lost in ((0, 5), (1, 6)):
            plain = grid.records[f"standard-n100-seed{seed}"].values
            left = plain["standard"]["correct"] - lost
            name = sizes.name_of("half", ball, 100, seed)
            values = {"standard": {"correct": left, "total": 1000}}
            grid.records[name] = Record(name, {}, values)
    said = size_pages.softened(grid)
    # robust training: 20 and 19 of 1,000 fewer
    assert "(2 seeds): -0.55 [" in said and "] instead of -1.95 [" in said
    assert "in l2 1.5; " in said and said.endswith("in l∞ 0.3.")
    helped = made_up({30: 4, 100: 2})
    assert size_pages.softened(helped).startswith("No ball costs")


def test_the_gap_to_the_paper_has_its_ends(table_4):
    said = size_pages.beside_paper(table_4)
    # 72 here; 88.59 and 89.92, 56.42 and 0.00 there
    assert "of robust networks by +16.6 (l2 1.5) to +17.9" in said
    assert "of standard networks by -72.0 (l∞ 0.3) to -15.6" in said
    assert "[recalled]" in said


def test_what_helps_most_is_compared_with_the_next():
    grid = made_up(TURN)
    ball = grid.sweep.rival[0]
    said = size_pages.most_helpful(grid, ball)
    assert said.startswith("l2 1.5, what helps most: PGD at 30 (beyond noise")
    assert said.endswith("shift at 100 (within noise ahead of random noise) "
                         "digits.")


def test_the_weak_attack_s_surplus_is_in_points(table_4):
    said = size_pages.weak_leaves(table_4)
    assert said.startswith("The weak attack reads up to 2.00 [")
    for training in ("standard", "robust"):
        assert f"points too high on {training} networks (in l2 1.5)" in said


def with_longer(grid, *longer):
    """The grid with other longer trainings: 2 points each for all, 1 robust.

    So each multiple adds 2 points to standard networks and 3 to robust ones.
    """
    sweep, records = replace(grid.sweep, longer=longer), dict(grid.records)
    for each in longer:
        for way, ball in sizes.extremes(sweep):
            for seed in range(each.seeds):
                once = records[sizes.name_of(way, ball, each.n, seed)]
                more = each.times * (20 if ball is None else 30)
                count = once.values["standard"]["correct"] + more
                values = {"standard": {"correct": count, "total": 1000}}
                name = sizes.name_of(
                    f"{each.word}-{way}", ball, each.n, seed
                )
                records[name] = Record(name, {}, values, {})
    return SizeGrid(sweep, records)


@pytest.fixture
def ladder():
    return with_longer(
        made_up({30: 4, 100: -2}, seeds=3), Longer(30, 2),
        Longer(100, 2), Longer(100, 4, seeds=3), Longer(100, 8),
    )  # fmt: skip


def test_the_gain_after_more_epochs(ladder):
    caption, (header, *rows) = cells(size_pages.patience(ladder))
    assert header == ["images", "epochs", "seeds", "l2 1.5", "l∞ 0.3"]
    assert [row[:3] for row in rows] == [
        ["30", "15", "1"], ["30", "30", "1"],
        ["100", "8", "3"], ["100", "16", "1"], ["100", "32", "3"],
        ["100", "64", "1"],
    ]  # fmt: skip
    for column in (3, 4):
        gains = [row[column].split(" [")[0] for row in rows]
        # each multiple adds a point; a tenth for every other seed
        assert gains == ["4.00", "6.00", "-1.97", "0.00", "2.03", "6.00"]
    assert "with one seed they cover the test images" in caption


def test_what_the_longest_training_adds(ladder):
    said = size_pages.added(ladder)
    assert said.startswith("With 100 images and 64 epochs instead of 8, ")
    assert "(seed 0): standard 16.00 [" in said
    assert ", l2 1.5 24.00 [" in said


def test_epochs_are_the_axis_of_patience(ladder):
    fig = size_plots.patience(ladder)
    few, full = fig.axes
    assert (few.get_title(), full.get_title()) == (
        "30 training images", "100 training images",
    )  # fmt: skip
    assert [list(line.get_xdata()) for line in full.lines] == [
        [8, 16, 32, 64]
    ] * 3
    plain = full.lines[0].get_ydata()
    assert list(plain - plain[0]) == pytest.approx([0, 4, 8, 16])


def test_the_fit_is_that_of_the_last_epoch():
    grid = made_up(TURN)
    for name, record in grid.records.items():
        robust = name.startswith("pgd")
        record.values["history"] = [
            {"accuracy": 0.2}, {"accuracy": 0.6 if robust else 0.9},
        ]  # fmt: skip
    _, (header, row, _) = cells(size_pages.fitted(grid))
    assert header == ["n", "standard", "l2 1.5", "l∞ 0.3"]
    assert row == ["30", "90.0", "60.0", "60.0"]


def test_costs_are_summed_and_averaged():
    grid = made_up(TURN)
    for record in grid.records.values():
        record.environment["device"] = "a slow one"
        record.data["source"] = "made up from BOOK_DATA"
    said = size_pages.cost(grid)
    assert said.startswith(f"{len(grid.records)} networks, ")
    spent = grid.cost()
    assert f"{spent['training_hours']:.2g} hours of processor time" in said
    assert f"and {spent['testing_hours']:.2g} for testing, on a sl" in said
    assert "a slow one; data: made up." in said
    _, (_, row, _) = cells(size_pages.spent(grid))
    assert row == ["30", "0.00", "0.00", "12", "12 and 12"]
