"""Numbers of a run: rate, movement, text."""

from agent.progress import ProgressMeter


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def move(meter: ProgressMeter, done: int) -> None:
    meter.update(bytes_done=done, total_bytes=1 << 30, files_done=done // 10, total_files=1000)


def test_the_rate_is_that_of_the_last_seconds():
    clock = Clock()
    meter = ProgressMeter(clock=clock)
    for second in range(60):
        clock.now = 100.0 + second
        move(meter, second * (100 if second < 40 else 1000))
    assert 800 <= meter.snapshot().bytes_per_second <= 1100


def test_a_job_that_stopped_has_a_falling_rate():
    clock = Clock()
    meter = ProgressMeter(clock=clock)
    move(meter, 0)
    clock.now += 1
    move(meter, 1000)
    assert meter.snapshot().bytes_per_second == 1000
    clock.now += 9
    assert meter.snapshot().bytes_per_second == 100


def test_only_change_is_movement():
    clock = Clock()
    meter = ProgressMeter(clock=clock)
    move(meter, 5)
    clock.now += 50
    move(meter, 5)
    assert meter.idle_seconds() == 50
    move(meter, 6)
    assert meter.idle_seconds() == 0
    clock.now += 7
    meter.touch()
    assert meter.idle_seconds() == 0


def test_before_anything_is_known():
    progress = ProgressMeter().snapshot()
    assert progress.text == ""
    assert progress.bytes_per_second == 0
