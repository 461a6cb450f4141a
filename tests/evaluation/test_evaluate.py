"""The whole evaluation: the same answer however it is computed, whatever is killed on the way."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path

import dying
import numpy as np
import pytest
from PIL import Image

import openkpu
from openkpu.errors import InputError, SetupError
from openkpu.evaluation import evaluate as module
from openkpu.evaluation import pool
from openkpu.evaluation.evaluate import evaluate
from openkpu.evaluation.job import Job, run_shard, split


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD", 4)


def same(a: object, b: object) -> bool:
    ignore = {"seconds", "resumed"}
    one, two = (x.as_dict() for x in (a, b))  # type: ignore[attr-defined]
    return {k: v for k, v in one.items() if k not in ignore} == {k: v for k, v in two.items() if k not in ignore}


def by_hand(kmodel: Path, pictures: Path, depth: int) -> float:
    model = openkpu.load(kmodel)
    right = []
    for file in sorted(pictures.rglob("*.png")):
        out = model.run(np.asarray(Image.open(file)).transpose(2, 0, 1))[0].reshape(-1)
        order = np.argsort(-out.astype(int), kind="stable")[:depth]
        right.append(int(file.parent.name) in order)
    return sum(right) / len(right)


def test_shares_of_right_classes(kmodel: Path, pictures: Path) -> None:
    for metric, depth in (("top1", 1), ("top5", 5)):
        result = evaluate(kmodel, pictures, metric=metric, jobs=1)
        assert result.kpu == by_hand(kmodel, pictures, depth)
    assert (result.pictures, result.reference, result.agreement) == (40, None, None)
    assert [c.count for c in result.classes] == [10, 10, 10, 10]
    assert sum(map(sum, result.confusion)) == 40
    assert "only 4 labels" in result.notes[0]  # the model has 32 outputs


def test_processes_and_records_change_nothing(kmodel: Path, pictures: Path, tmp_path: Path) -> None:
    plain = evaluate(kmodel, pictures, jobs=1)
    assert same(evaluate(kmodel, pictures, jobs=2), plain)
    record = tmp_path / "record"

    class StoppedError(Exception):
        pass

    def stop(stage: str, done: int, total: int) -> None:
        if done >= 12:
            raise StoppedError

    with pytest.raises(StoppedError):
        evaluate(kmodel, pictures, jobs=1, resume=record, progress=stop)
    again = evaluate(kmodel, pictures, jobs=1, resume=record)
    assert same(again, plain)
    assert again.resumed == 12
    assert evaluate(kmodel, pictures, jobs=1, resume=record).resumed == 40
    with pytest.raises(InputError, match="E464"):
        evaluate(kmodel, pictures, jobs=1, resume=record, limit=20)


def test_a_killed_worker_loses_nothing(kmodel: Path, pictures: Path) -> None:
    paths = [str(p) for p in sorted(pictures.rglob("*.png"))] * 20
    job = Job(kmodel.read_bytes(), None, None)
    shards = split(paths, range(len(paths)), 4)
    expected = {a.number: a for s in shards for a in run_shard(job, s)}
    got = {}
    killed = 0
    for n, part in enumerate(pool.run(job, shards, 2)):
        got.update({a.number: a for a in part})
        if n in (1, 40):
            os.kill(multiprocessing.active_children()[0].pid or 0, signal.SIGKILL)
            killed += 1
    assert killed == 2
    assert got == expected


def test_workers_that_always_die_are_given_up(kmodel: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(kmodel.read_bytes(), None, None)
    monkeypatch.setattr(pool, "_run", dying.die)
    with pytest.raises(SetupError, match="E551"):
        list(pool.run(job, split(["a", "b"], [0, 1], 1), 2))


def test_a_bad_picture_is_named_whoever_finds_it(kmodel: Path, pictures: Path) -> None:
    (pictures / "2" / "bad.png").write_text("no picture")
    for jobs in (1, 2):
        with pytest.raises(InputError, match=r"E453[\s\S]*bad\.png"):
            evaluate(kmodel, pictures, jobs=jobs)


def test_options_that_make_no_sense(kmodel: Path, pictures: Path) -> None:
    for options in ({"metric": "f1"}, {"metric": "map"}, {"limit": 0}):
        with pytest.raises(InputError, match="E465"):
            evaluate(kmodel, pictures, **options)  # type: ignore[arg-type]


def test_a_dask_cluster_gives_the_same_when_a_worker_is_killed(kmodel: Path, pictures: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="dask is not installed: pip install 'openkpu[cluster]'")
    plain = evaluate(kmodel, pictures, jobs=1)
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50, host="127.0.0.1"
    ) as cluster:

        def kill(stage: str, done: int, total: int) -> None:
            if done == 4:
                os.kill(cluster.workers[0].process.process.pid, signal.SIGKILL)

        result = evaluate(kmodel, pictures, cluster=cluster.scheduler_address, progress=kill)
    assert same(result, plain)


def test_a_cluster_that_is_not_there(kmodel: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="dask is not installed: pip install 'openkpu[cluster]'")
    monkeypatch.setattr("openkpu.evaluation.cluster.CONNECT_SECONDS", 1)
    with pytest.raises(SetupError, match="E552"):
        evaluate(kmodel, pictures, cluster="tcp://127.0.0.1:9")
