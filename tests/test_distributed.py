"""One process and two give the same curve; a killed run goes on.

The processes come from one fork server that has imported torch already, so
that a test with two of them takes about a second.
"""

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from forked import context, start
from promises import images
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.utils.data import Dataset

from lib import distributed, evaluation, models, streams, training
from lib.distributed import Job, fit
from lib.processes import FRESH_STORE, World, connect
from lib.recipes import Recipe

# --- two processes --------------------------------------------------------


def member(rank, size, folder, work, arguments):
    """One process of a world that meets in a file, so needs no port."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=size
    )
    try:
        found = work(World(rank, size), *arguments)
    except (ValueError, RuntimeError) as error:
        found = f"{type(error).__name__}: {error}"
    torch.save(found, folder / f"{rank}.pt")
    dist.barrier()  # nobody leaves while another still talks to it
    dist.destroy_process_group()


def together(size, folder, work, *arguments):
    """What ``work(world, *arguments)`` gives on each of ``size``."""
    folder.mkdir()
    team = [
        start(member, rank, size, folder, work, arguments)
        for rank in range(size)
    ]
    for process in team:
        process.join(120)
    assert [process.exitcode for process in team] == [0] * size
    return [
        torch.load(folder / f"{rank}.pt", weights_only=True)
        for rank in range(size)
    ]


# --- jobs, tiny and awkward -----------------------------------------------

# 22 images in batches of 8: the last one has 6, so that a part is short; with
# 21 it has 5; with 18 it has 2 for 4 parts, so that two of them are empty.
JOBS = {
    "standard": (Job(Recipe("linear", epochs=3, batch_size=8, lr=0.1), 4),
                 (4,), 18, {"features": 4}),
    "l2": (
        Job(Recipe("linear", "adversarial", norm="l2", eps=0.3, steps=3,
                   epochs=3, batch_size=8, lr=0.1, averaging=0.9), 2),
        (4,), 21, {"features": 4},
    ),
    "part of the data": (
        Job(Recipe("linear", "random", eps=0.3, epochs=5, batch_size=4,
                   lr=0.1, warmup=0.0), 2, epoch_images=10, optimiser="sgd",
            weight_decay=0.1, drop_every=2),
        (4,), 22, {"features": 4},
    ),
    "batch norm": (
        Job(Recipe("small_resnet", "half", eps=0.1, steps=2, epochs=2,
                   batch_size=8, lr=0.01, augment="crop-flip"), 4),
        (3, 16, 16), 22, {"width": 2},
    ),
    "batch norm moved by the attack": (
        Job(Recipe("small_resnet", "trades", eps=0.1, steps=1, epochs=1,
                   batch_size=8, lr=0.01, craft_mode="train"), 2),
        (3, 16, 16), 16, {"width": 2},
    ),
}  # fmt: skip


def data_of(name):
    _, shape, n, _ = JOBS[name]
    return images(n, shape).float(), torch.arange(n) % 3


def trained(world, name, job=None, **arguments):
    """Weights, buffers and history of one of the jobs."""
    own, _, _, options = JOBS[name]
    model, history = fit(
        data_of(name), job or own, world=world, held_out=data_of(name),
        progress=False, classes=3, **options, **arguments,
    )  # fmt: skip
    for row in history:
        assert row.pop("seconds") >= 0
    return dict(model.state_dict()), history


def all_jobs(world, folder=None):
    """Every job, and what the other tests ask of the same processes."""
    found = {name: trained(world, name) for name in JOBS}
    model = models.build("linear", seed=1, features=4, classes=3).eval()
    counts = distributed.count_correct(
        model, data_of("l2"), world=world, eps=0.05, batch_size=4
    )
    state = None if folder is None else folder / f"{world.rank}.state"
    if state is not None:
        trained(world, "l2", state=state)
        state = state.exists()
    return found, (counts.correct, counts.total), state


@pytest.fixture(scope="module")
def one():
    return all_jobs(World())


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return together(2, folder / "team", all_jobs, folder)


def same(found, expected, atol=2e-6):
    """Weights and history agree up to float rounding."""
    assert found[0].keys() == expected[0].keys()
    for name, value in expected[0].items():
        assert torch.allclose(
            found[0][name].double(), value.double(), rtol=1e-5, atol=atol
        ), name
    assert len(found[1]) == len(expected[1]) > 0
    for row, other in zip(found[1], expected[1], strict=True):
        assert row == pytest.approx(other, rel=1e-5, abs=1e-6)
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", JOBS)
def test_two_processes_give_the_curve_of_one(one, two, name):
    assert same(two[0][0][name], one[0][name])
    # both hold the very same model
    first, second = (each[0][name] for each in two)
    assert first[1] == second[1]
    for key, value in first[0].items():
        assert torch.equal(value, second[0][key])


@pytest.mark.slow
def test_evaluation_counts_the_same_on_two_processes(one, two):
    (correct, total) = one[1]
    assert 0 < correct < total == 21
    assert two[0][1] == two[1][1] == one[1]


@pytest.mark.slow
def test_only_the_first_process_writes(two):
    assert [each[2] for each in two] == [True, False]


# --- one process ----------------------------------------------------------


@pytest.mark.parametrize("method", ["standard", "trades"])
def test_one_part_on_one_process_is_the_plain_training(method):
    # trades with eps = 0: the same sums with no random start
    recipe = Recipe(
        "small_resnet", method, epochs=2, batch_size=8, lr=0.01, averaging=0.5
    )
    x, y = data_of("batch norm")
    options = {"progress": False, "classes": 3, "width": 2}
    expected, history = training.train(x, y, recipe, **options)
    model, found = fit((x, y), Job(recipe, 1), world=World(), **options)
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    for row, other in zip(found, history, strict=True):
        assert row["eps"] == other["eps"]
        assert row["accuracy"] == other["accuracy"]
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-6)
        assert row["forwards"] == other["forwards"]


def test_every_part_has_its_own_chance():
    recipe = Recipe("linear", "random", eps=0.5, epochs=1, batch_size=2,
                    warmup=0.0)  # fmt: skip
    x = torch.full((4, 4), 0.5)
    seen = []

    def watch(run, x, y, eps):
        seen.append(run.noise.initial_seed())
        return method(run, x, y, eps)

    method = distributed.METHODS["random"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(distributed.METHODS, "random", watch)
        for seed in (0, 1):
            fit((x, torch.arange(4) % 3), Job(replace(recipe, seed=seed), 2),
                world=World(), progress=False, classes=3,
                features=4)  # fmt: skip
    assert len(set(seen)) == len(seen) == 2 * 2 * 2


def test_training_leaves_the_global_chance_and_the_images_alone():
    x, y = data_of("batch norm")
    kept, state = x.clone(), torch.get_rng_state()
    trained(World(), "batch norm")
    fit(Rows(x, y), JOBS["batch norm"][0], world=World(), progress=False,
        classes=3, width=2)  # fmt: skip
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), state)


# --- which images come when -----------------------------------------------


@pytest.mark.parametrize(("n", "batch", "size"), [
    (22, 8, 1), (22, 8, 2), (18, 8, 4), (7, 4, 4), (64, 8, 2),
])  # fmt: skip
def test_an_epoch_holds_every_image_once_whoever_reads(n, batch, size):
    rows = streams.order(n, n, 3, 0)
    parts = [
        part
        for each in rows.split(batch)
        for rank in range(size)
        for part in streams.shards_of(each, 4, World(rank, size))
    ]
    assert torch.equal(torch.cat(parts), rows)
    assert torch.equal(rows.sort().values, torch.arange(n))
    # in every full batch all processes have the same number of images
    assert {len(part) for part in parts[: 4 * (n // batch)]} <= {batch // 4}


def test_the_order_is_that_of_the_plain_training():
    draw = torch.Generator().manual_seed(5)
    for epoch in range(3):
        expected = torch.randperm(9, generator=draw)
        assert torch.equal(streams.order(9, 9, epoch, 5), expected)


@pytest.mark.parametrize("length", [1, 4, 9, 10, 25])
def test_short_and_long_epochs_go_through_the_permutations(length):
    rows = torch.cat([streams.order(9, length, e, 5) for e in range(9)])
    assert len(rows) == 9 * length
    for part in rows.split(9):
        assert len(part.unique()) == len(part)


class Rows(Dataset):
    """Examples that are made when they are asked for."""

    def __init__(self, x, y):
        self.x, self.targets, self.epoch, self.seen = x, y.tolist(), 0, []

    def __len__(self):
        return len(self.x)

    def __getitem__(self, row):
        self.seen.append((self.epoch, row))
        return self.x[row], self.targets[row]


def test_a_dataset_trains_like_the_same_tensors():
    job, _, _, options = JOBS["batch norm"]
    rows = Rows(*data_of("batch norm"))
    model, history = fit(
        rows, job, world=World(), progress=False, held_out=rows, classes=3,
        **options,
    )  # fmt: skip
    for row in history:
        row.pop("seconds")
    expected = trained(World(), "batch norm")
    assert same((dict(model.state_dict()), history), expected, atol=0)
    epochs = [epoch for epoch, _ in rows.seen[:-22]]
    assert set(epochs) == {0, 1}, "the epoch decides the augmentation"


# --- killed and resumed ---------------------------------------------------


@pytest.mark.parametrize(("stop_after", "save_every"), [
    (0, 1), (1, 1), (4, 2), (5, 1), (6, 3), (8, 100),
])  # fmt: skip
def test_a_run_goes_on_where_it_was_saved(
    tmp_path, monkeypatch, stop_after, save_every
):
    expected = trained(World(), "l2")
    done, update = 0, distributed._update

    def interrupted(*args):
        nonlocal done
        if done == stop_after:
            raise KeyboardInterrupt
        done += 1
        return update(*args)

    options = {"state": tmp_path / "deep" / "run.state",
               "save_every": save_every}  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(distributed, "_update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(World(), "l2", **options)
    assert same(trained(World(), "l2", **options), expected, atol=0)
    monkeypatch.delattr(distributed, "_update")  # nothing is left to do
    assert same(trained(World(), "l2", **options), expected, atol=0)


def killed_once(folder):
    """A worker of torchrun; in its first life process 1 dies in epoch 2."""
    torch.set_num_threads(1)
    first_life = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
    update = distributed._update

    def fragile(run, parts):
        if first_life and run.world.rank == 1 and run.update == 4:
            assert run.batches == 3, "this is the middle of an epoch"
            os.kill(os.getpid(), signal.SIGKILL)
        update(run, parts)

    distributed._update = fragile
    with connect("gloo") as world:
        begun = (folder / "run.state").exists()
        found = trained(
            world, "batch norm", state=folder / "run.state", save_every=1
        )
        (folder / f"life-{world.rank}-{first_life}").touch()
        torch.save((found, begun), folder / f"{world.rank}.pt")


@pytest.fixture
def signals():
    """The handlers of signals, put back after the test."""
    names = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT]
    before = {name: signal.getsignal(name) for name in names}
    yield
    for name, handler in before.items():
        signal.signal(name, handler)


@pytest.mark.slow
def test_a_worker_killed_in_mid_epoch_changes_nothing(
    tmp_path, one, monkeypatch, signals
):
    # what ``torchrun --standalone --nproc-per-node=2 --max-restarts=1`` does,
    # with workers that have torch already
    name, value = FRESH_STORE.split("=")
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    context()
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=2, max_restarts=1,
        run_id="test", rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        start_method="forkserver", monitor_interval=0.1,
    )  # fmt: skip
    elastic_launch(config, killed_once)(tmp_path)
    lives = sorted(path.name for path in tmp_path.glob("life-*"))
    assert lives == ["life-0-False", "life-1-False"], "it was not killed"
    for rank in (0, 1):
        found, begun = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert begun, "it began from scratch"
        assert same(found, one[0]["batch norm"])


@pytest.mark.parametrize("change", [
    {"seed": 1}, {"lr": 0.2}, {"epochs": 4},
])  # fmt: skip
def test_the_state_of_another_run_is_refused(tmp_path, change):
    state = tmp_path / "run.state"
    trained(World(), "l2", state=state)
    job = JOBS["l2"][0]
    other = replace(job, recipe=replace(job.recipe, **change))
    with pytest.raises(ValueError, match="with other settings; delete it"):
        trained(World(), "l2", other, state=state)
    state.write_bytes(state.read_bytes()[:700])
    with pytest.raises(ValueError, match=r"damaged.* delete it"):
        trained(World(), "l2", state=state)


def test_the_state_of_other_images_is_refused(tmp_path):
    x, y = data_of("l2")
    job, _, _, options = JOBS["l2"]
    for labels, fine in ((y, True), (y.flip(0), False)):
        arguments = {
            "world": World(), "progress": False, "classes": 3,
            "state": tmp_path / "run.state", **options,
        }  # fmt: skip
        if fine:
            fit((x, labels), job, **arguments)
        else:
            with pytest.raises(ValueError, match="with other data"):
                fit((x, labels), job, **arguments)


# --- mistakes -------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shards": 3}, "batch of 8 images cannot be cut into 3 equal parts"),
        ({"shards": 0}, "cannot be cut"),
        ({"epoch_images": 0}, "epoch_images must be at least 1"),
        ({"optimiser": "lion"}, '"adam" or "sgd"'),
        ({"weight_decay": -1.0}, "weight_decay must be >= 0"),
        ({"drop_every": 0}, "drop_every >= 1"),
        ({"recipe": Recipe(method="free", steps=1)}, "on one process"),
        ({"recipe": Recipe(validation=5)}, "on one process"),
    ],
)
def test_an_unsound_job_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(JOBS["standard"][0], **change)


def test_parts_that_cannot_be_shared_out_are_refused():
    with pytest.raises(ValueError, match=r"4 shards .* among 3 processes"):
        trained(World(0, 3), "standard")


def test_unsound_images_are_refused():
    x, y = data_of("l2")
    for case in ((3 * x, y), (x, y + 1)):
        with pytest.raises(ValueError, match=r"normalisation|span 1 \.\. 3"):
            fit(case, JOBS["l2"][0], world=World(), classes=3, features=4)


def apart(world, folder):
    x, y = data_of("l2")
    if world.rank == 1:
        y = y.flip(0)
    return fit(
        (x, y), JOBS["l2"][0], world=world, progress=False, classes=3,
        features=4,
    )  # fmt: skip


@pytest.mark.slow
def test_machines_with_different_data_are_told(tmp_path):
    found = together(2, tmp_path / "team", apart, tmp_path)
    for message in found:
        assert message.startswith("RuntimeError: the processes do not have")
        assert "disk that they share" in message


@pytest.fixture
def torchrun(monkeypatch):
    """The environment of one process under torchrun, to be spoilt."""
    values = {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0",
              "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}  # fmt: skip
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_an_incomplete_environment_names_the_command(torchrun):
    torchrun.delenv("MASTER_PORT")
    with (
        pytest.raises(RuntimeError, match=r"MASTER_PORT.*torchrun --stand"),
        connect(),
    ):
        pass


def test_restarts_that_would_not_work_are_refused(torchrun):
    torchrun.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    torchrun.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with (
        pytest.raises(RuntimeError, match=f"{FRESH_STORE} torchrun"),
        connect(),
    ):
        pass


def test_a_missing_backend_is_named(torchrun):
    torchrun.setattr(dist, "is_gloo_available", lambda: False)
    with pytest.raises(RuntimeError, match="has no gloo"), connect("gloo"):
        pass
    with pytest.raises(RuntimeError, match='"gloo" or "nccl"'), connect("mpi"):
        pass


def test_more_processes_than_gpus_are_refused(torchrun):
    torchrun.setenv("LOCAL_RANK", "2")
    torchrun.setattr(dist, "is_nccl_available", lambda: True)
    torchrun.setattr(torch.cuda, "device_count", lambda: 2)
    with (
        pytest.raises(RuntimeError, match=r"process 2 .* --nproc-per-node=2"),
        connect("nccl"),
    ):
        pass


def test_without_torchrun_the_world_is_this_process(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR",
                 "MASTER_PORT"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    with connect("gloo") as world:
        assert world == World()
        assert torch.equal(world.total(torch.ones(2)), torch.ones(2))
        world.agree("anything", object())


# --- the script -----------------------------------------------------------


def test_the_script_trains_and_writes_a_record(
    plain_environment, monkeypatch, tmp_path, capsys
):
    import train_distributed

    from lib import checkpoints, results

    monkeypatch.setenv("BOOK_OFFLINE", "1")
    words = (
        "mnist-pgd --backend gloo --images 64 --test 20 --set epochs=1 "
        "--set eps=0.1 --set steps=1 --set shards=4 --set batch_size=32"
    ).split()
    monkeypatch.setattr(sys, "argv", ["x", *words, "--out", str(tmp_path)])
    train_distributed.main()
    assert "standard accuracy" in capsys.readouterr().out
    record = results.load("mnist-pgd", tmp_path)
    assert record.settings["recipe"]["eps"] == 0.1
    assert record.settings["shards"] == 4
    assert record.values["processes"] == 1
    assert record.values["robust"]["total"] == 20
    assert record.data["train"] == 64
    assert not list(Path(tmp_path).glob("*.state"))
    model, _ = checkpoints.from_record(record)
    test = train_distributed.data.load("mnist", quiet=True)
    test = test.take(64, 20, 0)
    right = evaluation.accuracy(model, test.x_test, test.y_test).correct
    assert right == record.values["standard"]["correct"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mnist-pgd", "--set", "colour=red"], "no setting 'colour'"),
        (["mnist-pgd", "--set", "eps=much"], "much"),
        (["mnist-pgd", "--set", "shards=7"], "cannot be cut into 7"),
        (["fashion"], "invalid choice"),
    ],
)
def test_mistakes_on_the_command_line_are_named(words, message, capsys):
    import train_distributed

    with pytest.raises(SystemExit):
        train_distributed.parse(words)
    assert message in capsys.readouterr().err


def test_settings_are_changed_together():
    import train_distributed

    job = train_distributed.parse(
        ["mnist-pgd", "--set", "batch_size=6", "--set", "shards=3",
         "--set", "epoch_images=60"]
    ).job  # fmt: skip
    assert (job.recipe.batch_size, job.shards) == (6, 3)
    assert job.epoch_images == 60
