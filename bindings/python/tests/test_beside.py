"""What else runs beside a long call: other threads, other processes, and Ctrl-C."""

import multiprocessing
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import saymask
from saymask import datasets, mask

with_models = pytest.mark.skipif(not hasattr(saymask, "load"), reason="built without models")
SENTENCE = "the red circle"


def steps_beside(call):
    """Steps that this thread took in the middle half of another one's `call`, and the seconds of the call.

    Around the call the other thread is in the interpreter, where threads take turns anyway."""
    span, steps = [], []

    def work():
        span.append(time.perf_counter())
        call()
        span.append(time.perf_counter())

    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        time.sleep(0.001)
        steps.append(time.perf_counter())
    thread.join()
    seconds = span[1] - span[0]
    return sum(seconds / 4 < step - span[0] < seconds * 3 / 4 for step in steps), seconds


def noise(*shape):
    return np.asfortranarray(np.random.default_rng(0).integers(0, 2, shape, np.uint8))


# Each takes a tenth of a second or more, and far more than its arguments take to be read.
HEAVY = {
    "encode": lambda root: lambda array=noise(1500, 1500, 30): mask.encode(array),
    "decode": lambda root: lambda rle=mask.encode(np.ones((4000, 4000), bool)): mask.decode([rle] * 12),
    "iou": lambda root: lambda rles=mask.encode(noise(60, 60, 300)): mask.iou(rles, rles, [0] * 300),
    "merge": lambda root: lambda rles=mask.encode(noise(1500, 1500, 20)): mask.merge(rles),
    "frPyObjects": lambda root: lambda: mask.frPyObjects(np.tile([[5.0, 5.0, 900.0, 900.0]], (4000, 1)), 2000, 2000),
    "generate": lambda root: lambda: datasets.generate(root / "more", images=300, size=128),
    "open": lambda root: lambda: [datasets.open(root / "more", "refcoco", split="train") for _ in range(20)],
}


@pytest.mark.parametrize("name", HEAVY)
def test_the_gil_is_released(name, tmp_path_factory):
    root = tmp_path_factory.getbasetemp()
    steps, seconds = steps_beside(HEAVY[name](root))
    assert steps > 0, f"{steps} steps in {seconds:.3f} s"


@with_models
def test_models_release_the_gil(val):
    model, images = saymask.load(), [sample.image for sample in val] * 10
    steps, seconds = steps_beside(lambda: model(images, SENTENCE))
    assert steps > 0, f"{steps} steps in {seconds:.3f} s"


def test_a_call_that_keeps_the_gil_would_be_seen():
    numbers = np.random.default_rng(0).random(3_000_000).tolist()
    steps, seconds = steps_beside(numbers.sort)
    assert seconds > 0.1 and steps == 0


@with_models
def test_threads_share_a_model(val):
    model, images = saymask.load(), [image.image for image in val.images][:4]
    expected = [model(image, SENTENCE).rle for image in images]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda image: model(image, SENTENCE).rle, images * 4)) == expected * 4


MODEL = None


def answered(image):
    """In another process: of the model that a fork took along, or of one that is loaded there."""
    return (MODEL or saymask.load())(image, SENTENCE).rle


@with_models
@pytest.mark.parametrize("start", ["fork", "spawn"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_processes_have_models(val, start):
    global MODEL
    model, images = saymask.load(), [image.image for image in val.images][:4]
    expected = [model(image, SENTENCE).rle for image in images]
    MODEL = model
    try:
        with multiprocessing.get_context(start).Pool(2) as pool:
            assert pool.map_async(answered, images).get(timeout=60) == expected
    finally:
        MODEL = None


INTERRUPTED = {
    "generate": "saymask.datasets.generate(sys.argv[1], images=200_000, size=512)",
    "model": "saymask.load()([np.zeros((64, 64, 3), np.uint8)] * 100_000, 'the red circle')",
    "ask": "saymask.load().embed(np.zeros((64, 64, 3), np.uint8)).ask(['the red circle'] * 100_000)",
}


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")
@pytest.mark.parametrize("name", [pytest.param(name, marks=[with_models] if name != "generate" else []) for name in INTERRUPTED])
def test_ctrl_c_ends_a_long_call(name, tmp_path):
    script = f"""
        import signal, sys, numpy as np, saymask
        # Processes in the background of a shell have it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        print("begun", flush=True)
        try:
            {INTERRUPTED[name]}
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "data")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert child.stdout.readline() == "begun\n"
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1)
        begun = time.monotonic()
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=30)
    finally:
        child.kill()
    assert (out, err, child.returncode) == ("interrupted\n", "", 0) and time.monotonic() - begun < 10
