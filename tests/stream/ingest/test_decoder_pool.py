"""The threads that call the GPU's decoders: who sits where, what waits, and what hangs."""

from __future__ import annotations

import contextlib
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from configs import DeviceMemoryError, MediaError
from stream.ingest import decoder_lane
from stream.ingest.decoder_lane import CallAbandonedError, LaneHungError
from stream.ingest.decoder_pool import DecoderPool, Seat, open_pool
from tests.support.fake_nvc import FakeNvc
from tests.support.nvdec_cameras import pool_on_cpu
from tests.support.waiting import until


def opened(pool: DecoderPool, **settings: Any) -> Seat:
    seat = pool.take_seat()
    given = {"codec": "h264", "max_size": (64, 64), "keeps_order": True} | settings
    seat.open(**given)
    return seat


@contextlib.contextmanager
def in_thread(work: Callable[[], object]) -> Iterator[list[Exception]]:
    """Run something in another thread for as long as the block lasts; collect its exceptions."""
    raised: list[Exception] = []

    def run() -> None:
        try:
            work()
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield raised
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.parametrize(("engines", "lanes"), [(1, 7), (7, 7), (9, 9), (20, 14)])
def test_there_are_as_many_threads_as_engines_within_limits(engines: int, lanes: int) -> None:
    nvc = FakeNvc()
    nvc.caps["h264", 8]["num_decoder_engines"] = engines
    before = set(threading.enumerate())
    pool = DecoderPool(nvc, torch.device("cpu"))
    assert len(set(threading.enumerate()) - before) == lanes
    pool.close()
    assert until(lambda: set(threading.enumerate()) <= before, 10)


def test_cameras_are_spread_and_each_stays_in_one_thread() -> None:
    nvc = FakeNvc()
    with pool_on_cpu(nvc, lanes=3) as pool:
        seats = [opened(pool) for _ in range(7)]
        for _ in range(3):
            for seat in seats:
                seat.flush()
        used = [nvc.threads[number] for number in sorted(nvc.threads)]
        assert [len(names) for names in used] == [1] * 7
        assert sorted(map(used.count, used)) == [2, 2, 2, 2, 3, 3, 3]
        assert pool.open_decoders == nvc.open == 7
        for seat in seats[:3]:
            seat.close()
            seat.close()  # only counted once
        assert until(lambda: nvc.open == 4, 10)
        for _ in range(3):  # the places that became free are taken first
            opened(pool).flush()
        lanes = [frozenset(nvc.threads[number]) for number in (4, 5, 6, 7, 8, 9, 10)]
        assert sorted(map(lanes.count, lanes)) == [2, 2, 2, 2, 3, 3, 3]
    assert nvc.open == 0


def test_few_decoders_are_created_at_a_time() -> None:
    class Slow(FakeNvc):
        now = most = 0
        lock = threading.Lock()

        def CreateDecoder(self, **arguments: Any) -> Any:  # noqa: N802
            with self.lock:
                self.now += 1
                self.most = max(self.most, self.now)
            time.sleep(0.02)
            with self.lock:
                self.now -= 1
            return super().CreateDecoder(**arguments)

    nvc = Slow()
    with pool_on_cpu(nvc, lanes=8) as pool, contextlib.ExitStack() as stack:
        problems = [stack.enter_context(in_thread(lambda: opened(pool))) for _ in range(16)]
    assert problems == [[]] * 16
    assert nvc.created == 16
    assert nvc.most == 2


def test_a_lane_serves_its_cameras_in_turn() -> None:
    release = threading.Event()
    nvc = FakeNvc()
    with pool_on_cpu(nvc, lanes=1) as pool, contextlib.ExitStack() as stack:
        stack.callback(release.set)
        seats = [opened(pool) for _ in range(4)]
        nvc.hang_in_decode(release)
        stack.enter_context(in_thread(seats[0].flush))
        assert until(lambda: len(nvc.threads[1]) == 1, 10)
        done: list[int] = []
        queue = seats[0]._lane._calls
        for waiting, number in enumerate((2, 1, 3), 1):

            def work(number: int = number) -> None:
                seats[number]._lane.call(lambda: done.append(number), lambda: False)

            stack.enter_context(in_thread(work))
            assert until(lambda count=waiting: queue.qsize() == count, 10)  # type: ignore[misc]
        release.set()
        assert until(lambda: len(done) == 3, 10)
    assert done == [2, 1, 3]


def test_a_decoder_that_hangs_takes_only_its_lane_along() -> None:
    release = threading.Event()
    nvc = FakeNvc()
    with pool_on_cpu(nvc, lanes=2, patience_seconds=0.3) as pool:
        stuck, beside, neighbour = opened(pool), opened(pool), opened(pool)
        nvc.hang_in_decode(release)
        with in_thread(stuck.flush) as first, in_thread(neighbour.flush) as second:
            assert until(lambda: bool(nvc.threads[1]), 10)
            nvc.hang_in_decode(None)
            beside.flush()  # the other lane
        assert [type(error) for error in first + second] == [LaneHungError] * 2
        assert "did not return within 0.3 s" in str(first[0])
        with pytest.raises(LaneHungError):
            stuck.flush()
        assert pool.abandoned == 1
        late = [opened(pool) for _ in range(2)]
        for seat in late:
            seat.flush()
        assert nvc.created == 5
        started_at = time.monotonic()
        pool.close()
        assert time.monotonic() - started_at < 5
        assert nvc.open == 2  # those of the lane that hangs
        release.set()
        assert until(lambda: nvc.open == 0, 10)


def test_a_process_that_stood_still_does_not_blame_the_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As if it was stopped, or its virtual machine, in the middle of a call."""
    release = threading.Event()
    nvc = FakeNvc()
    slept: list[float] = []
    clock = types.SimpleNamespace(monotonic=lambda: time.monotonic() + sum(slept))
    monkeypatch.setattr(decoder_lane, "time", clock)
    with pool_on_cpu(nvc, lanes=1) as pool:
        seat = opened(pool)
        nvc.hang_in_decode(release)
        with in_thread(seat.flush) as raised:
            assert until(lambda: bool(nvc.threads[1]), 10)
            slept.append(100.0)
            assert until(lambda: seat._lane._resumed_monotonic > 0, 10)
            release.set()
        assert raised == []
        assert not seat._lane.hangs()


def test_a_driver_that_hangs_everywhere_is_left_alone() -> None:
    release = threading.Event()
    nvc = FakeNvc()
    with pool_on_cpu(nvc, lanes=1, patience_seconds=0.2) as pool:
        seat = opened(pool)
        nvc.hang_in_decode(release)
        with pytest.raises(LaneHungError):
            seat.flush()
        with pytest.raises(LaneHungError, match="1 threads hang"):
            pool.take_seat()
        release.set()
        nvc.hang_in_decode(None)
        assert until(lambda: pool.abandoned == 0, 10)  # the driver was only slow
        assert opened(pool).flush() == []


def test_closing_does_not_wait_for_a_call_that_hangs() -> None:
    release = threading.Event()
    nvc = FakeNvc()
    stopped = threading.Event()
    with pool_on_cpu(nvc, lanes=1, patience_seconds=0.3) as pool:
        seat = pool.take_seat(stopped.is_set)
        seat.open(codec="h264", max_size=(64, 64), keeps_order=True)
        nvc.hang_in_decode(release)
        with in_thread(seat.flush) as raised:
            assert until(lambda: bool(nvc.threads[1]), 10)
            stopped.set()
        assert [type(error) for error in raised] == [CallAbandonedError]
        pool.close()
        release.set()


def test_closing_does_not_wait_for_a_decoder_that_cannot_be_closed() -> None:
    release = threading.Event()

    class Stuck:
        def close(self) -> None:
            release.wait()

    with pool_on_cpu(lanes=1, patience_seconds=0.3) as pool:
        seat = opened(pool)
        seat._lane.keep(Stuck())
        with in_thread(pool.close) as raised:
            assert until(lambda: seat._lane.hangs(), 10)
        assert raised == []
        assert pool.abandoned == 0
        release.set()
        assert until(lambda: seat._lane.join(0.0), 10)


def test_errors_reach_the_camera_and_the_lane_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    nvc = FakeNvc()
    with pool_on_cpu(nvc, lanes=1) as pool:
        nvc.fail_to_create()
        with pytest.raises(MediaError, match="cannot open a decoder"):
            opened(pool)
        nvc.fail_to_create(error=RuntimeError("CUDA_ERROR_OUT_OF_MEMORY"))
        with pytest.raises(DeviceMemoryError):
            opened(pool)
        seat = pool.take_seat()
        with pytest.raises(MediaError, match="no decoder"):
            seat.decode(b"x", 0)
        with pytest.raises(MediaError, match=r"unexpected error \(ZeroDivisionError\)"):
            seat._lane.call(lambda: 1 / 0, lambda: False)
        assert "a call of the GPU's decoder failed" in caplog.text
        assert opened(pool).flush() == []


def test_a_closed_pool_refuses() -> None:
    with pool_on_cpu(lanes=1) as pool:
        seat = opened(pool)
        pool.close()
        with pytest.raises(MediaError, match="closed"):
            seat.flush()
        with pytest.raises(MediaError, match="closed"):
            pool.take_seat()


def test_a_new_decoder_takes_the_place_of_the_old_one() -> None:
    nvc = FakeNvc()
    with pool_on_cpu(nvc, lanes=1) as pool:
        seat = opened(pool)
        seat.open(codec="hevc", max_size=(256, 256), keeps_order=False)
        assert nvc.created == 2
        assert nvc.max_open == nvc.open == pool.open_decoders == 1


def test_there_is_no_pool_without_a_gpu() -> None:
    assert open_pool(torch.device("cpu")) is None
