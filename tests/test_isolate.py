"""Work in processes of its own: whatever a task does, it costs that task only."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from made.commands import environment

from kerasbalance.data.errors import DataError
from kerasbalance.data.ingest.isolate import Limits, run_isolated, signals_held
from kerasbalance.data.ingest.memory import usable_memory_bytes

LIMITS = Limits(timeout_s=60, memory_bytes=4 * 2**30)


def test_the_memory_of_a_container_counts_before_that_of_the_machine(tmp_path):
    machine = psutil.virtual_memory().total
    own = tmp_path / "own"
    assert usable_memory_bytes(tmp_path, own) == machine
    own.write_text("9:cpu:/x\n4:hugetlb,memory:/slurm/job_7\n0::/user/app\n")
    assert usable_memory_bytes(tmp_path, own) == machine
    for name, limit in (("user/app/memory.max", "max"), ("user/memory.max", "3000000"),
                        ("memory/slurm/job_7/memory.limit_in_bytes", "9223372036854771712")):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(limit + "\n")
    assert usable_memory_bytes(tmp_path, own) == 3_000_000
    (tmp_path / "memory/slurm/memory.limit_in_bytes").write_text("2000000\n")
    assert usable_memory_bytes(tmp_path, own) == 2_000_000


def work(task):
    return {name: globals()[name] for name in TASKS}[task]()


def answer():
    return 42


def large_answer():
    return np.arange(3_000_000)


def fail():
    raise KeyError("DOE^JANE")


def refuse():
    raise DataError("GAP", "a gap", "no gap", "mend it", path="/x/y")


def leave():
    os._exit(7)


def leave_politely():
    raise SystemExit(3)


def segfault():
    ctypes.string_at(0)


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def memory_bomb():
    return bytes(64 * 2**30)


def recurse():
    return recurse()


def system_error():
    Path("/nowhere/DOE^JANE").read_bytes()


def talk():
    print("DOE^JANE")  # noqa: T201
    os.write(2, b"DOE^JANE")
    return "said"


def cannot_be_sent():
    return lambda: None


def ignore_signals():
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    return "alive"


TASKS = [
    "answer", "large_answer", "fail", "refuse", "leave", "leave_politely", "segfault", "kill_itself",
    "memory_bomb", "recurse", "system_error", "talk", "cannot_be_sent", "ignore_signals",
]  # fmt: skip


@pytest.fixture(scope="module")
def results(capfd_module):
    found = dict(run_isolated(work, TASKS, jobs=4, limits=LIMITS))
    return {name: found[n] for n, name in enumerate(TASKS)}


@pytest.fixture(scope="module")
def capfd_module(tmp_path_factory):
    """What reaches the file descriptors 1 and 2 while the tasks run."""
    path = tmp_path_factory.mktemp("output") / "output"
    with path.open("wb") as file:
        kept = [os.dup(number) for number in (1, 2)]
        for number in (1, 2):
            os.dup2(file.fileno(), number)
        yield path
        for number, old in zip((1, 2), kept, strict=True):
            os.dup2(old, number)
            os.close(old)


def test_results_come_back(results):
    assert results["answer"] == 42
    assert results["ignore_signals"] == "alive"
    np.testing.assert_array_equal(results["large_answer"], np.arange(3_000_000))


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("leave", r"CRASHED: a case that ended its process \(exit code 7\)"),
        ("leave_politely", r"CRASHED: a case that ended its process \(exit code 3\)"),
        ("segfault", r"CRASHED: a case that ended its process \(exit code -11\)"),
        ("kill_itself", r"CRASHED: a case that ended its process \(exit code -9\)"),
        ("cannot_be_sent", r"CRASHED"),
        ("memory_bomb", r"MEMORY: a case that needs more memory than one case may have"),
        ("fail", r"INTERNAL: a case that met an unforeseen KeyError at test_isolate.py:\d+"),
        ("recurse", r"INTERNAL: a case that met an unforeseen RecursionError"),
        ("system_error", r"UNREADABLE: a case on which the operating system gave up \(No such file"),
    ],
)
def test_whatever_a_task_does_is_told_in_one_line(results, task, message):
    with pytest.raises(DataError, match=message):
        raise results[task]
    assert "DOE" not in str(results[task])


def test_a_refusal_comes_back_whole(results):
    error = results["refuse"]
    assert (error.code, error.received, error.path) == ("GAP", "a gap", Path("/x/y"))


def test_tasks_say_nothing_to_the_terminal(results, capfd_module):
    assert results["talk"] == "said"
    assert b"DOE" not in capfd_module.read_bytes()


def sleep(seconds):
    time.sleep(seconds)
    return seconds


def test_a_task_that_takes_too_long_is_stopped_and_the_others_go_on():
    list(run_isolated(sleep, [0], jobs=1, limits=LIMITS))  # the server has started
    limits = Limits(timeout_s=4, memory_bytes=4 * 2**30)
    start = time.monotonic()
    found = dict(run_isolated(sleep, [600, 0, 0.1, 600], jobs=2, limits=limits))
    assert found[1] == 0
    assert found[2] == 0.1
    assert [found[n].code for n in (0, 3)] == ["TIMEOUT", "TIMEOUT"]
    assert time.monotonic() - start < 60


def test_no_more_than_so_many_run_at_once():
    running = run_isolated(busy, [0.3] * 6, jobs=2, limits=LIMITS)
    spans = [span for _, span in running]
    edges = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    assert max(np.cumsum([step for _, step in edges])) <= 2


def busy(seconds):
    begin = time.monotonic()
    time.sleep(seconds)
    return begin, time.monotonic()


@pytest.mark.parametrize("jobs", [0, -1])
def test_no_process_is_no_way_to_work(jobs):
    with pytest.raises(ValueError, match="expected at least 1"):
        next(run_isolated(sleep, [0], jobs=jobs, limits=LIMITS))


def test_no_tasks_give_no_results():
    assert list(run_isolated(sleep, [], jobs=2, limits=LIMITS)) == []


def endless(path):
    """Work without end and leave the process's number."""
    Path(path, f"{os.getpid()}.pid").touch()
    while True:
        time.sleep(0.01)


def never_ending_ingest(folder):
    for _ in run_isolated(endless, [folder] * 3, jobs=3, limits=LIMITS):
        pass


if __name__ == "__main__":
    never_ending_ingest(sys.argv[1])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_processes_end_with_their_parent(tmp_path, number):
    command = [sys.executable, __file__, str(tmp_path)]
    parent = subprocess.Popen(command, env=environment(tmp_path), stderr=subprocess.DEVNULL)
    wait_for(lambda: len(list(tmp_path.glob("*.pid"))) == 3)
    workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    family = [child.pid for child in psutil.Process(parent.pid).children(recursive=True)]
    assert set(workers) <= set(family)
    parent.send_signal(number)
    parent.wait()
    wait_for(lambda: not any(is_alive(pid) for pid in family))


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_given_to_another_thread_waits_too(number):
    class Told(Exception):
        pass

    def tell(*_):
        raise Told

    def held():
        with signals_held():
            os.kill(os.getpid(), number)
            time.sleep(0.2)
            reached.append(True)

    idle, reached = threading.Event(), []
    other = threading.Thread(target=idle.wait)  # does not block signals, so the system gives them to it
    other.start()
    before = signal.signal(number, tell)
    try:
        with pytest.raises(Told):
            held()
        assert reached
        assert signal.getsignal(number) is tell
    finally:
        signal.signal(number, before)
        idle.set()
        other.join()
