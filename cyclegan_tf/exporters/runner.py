"""Runs an exported generator in its own runtime. A script for a new process that must not import cyclegan_tf.

  python runner.py RUNTIME MODEL INPUTS.npz OUTPUTS.npz REPEATS

RUNTIME is saved_model, keras, tflite or onnx. INPUTS holds arrays image0, image1 ..., float32 (1, H, W, C) in [-1, 1].
OUTPUTS receives the translations under the same names, and the latencies milliseconds_1 and milliseconds_2: the median
time for image0 over REPEATS runs with one and two threads. TensorFlow gives only milliseconds_0, with a thread
for each core.
"""

import os
import sys
import time
from collections.abc import Callable

# Files beside this script have the names of packages (onnx, tflite), and Python 3.10 ignores PYTHONSAFEPATH.
if sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
    sys.path.pop(0)

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# An exported file must work for users who have neither of these packages.
sys.modules["cyclegan_tf"] = sys.modules["tensorflow_addons"] = None  # type: ignore[assignment]  # None blocks imports.

Runners = dict[int, Callable[[np.ndarray], np.ndarray]]  # Number of threads (0: default) -> function of an image.


def _load_saved_model(path: str) -> Runners:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)

    def run(image: np.ndarray) -> np.ndarray:
        # Look the signature up in `loaded` each time: a signature alone does not keep the variables alive.
        return loaded.signatures["serving_default"](images=tf.constant(image))["images"].numpy()

    return {0: run}


def _load_keras(path: str) -> Runners:
    import tensorflow as tf

    network = tf.keras.models.load_model(path, compile=False)
    # Compile the network as a user would. With every dimension free, one trace serves all sizes.
    specification = tf.TensorSpec((None, *network.input_shape[1:]), tf.float32)
    compiled = tf.function(lambda image: network(image, training=False), input_signature=[specification])
    return {0: lambda image: compiled(image).numpy()}


def _load_tflite(path: str) -> Runners:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter

    def make_runner(threads: int) -> Callable[[np.ndarray], np.ndarray]:
        interpreter = Interpreter(path, num_threads=threads)
        image_in, image_out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        shape = None

        def run(image: np.ndarray) -> np.ndarray:
            nonlocal shape
            if image.shape != shape:
                interpreter.resize_tensor_input(image_in["index"], image.shape, strict=True)
                interpreter.allocate_tensors()
                shape = image.shape
            interpreter.set_tensor(image_in["index"], image)
            interpreter.invoke()
            return interpreter.get_tensor(image_out["index"])

        return run

    return {threads: make_runner(threads) for threads in (1, 2)}


def _load_onnx(path: str) -> Runners:
    import onnxruntime

    def make_runner(threads: int) -> Callable[[np.ndarray], np.ndarray]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda image: session.run(None, {name: image})[0]

    return {threads: make_runner(threads) for threads in (1, 2)}


def _measure_latency(run: Callable[[np.ndarray], np.ndarray], image: np.ndarray, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run(image)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


_LOADERS = {"saved_model": _load_saved_model, "keras": _load_keras, "tflite": _load_tflite, "onnx": _load_onnx}


def main(runtime: str, model: str, inputs: str, outputs: str, repeats: str) -> None:
    """Runs `model` on all images; takes the arguments of the command line."""
    runners = _LOADERS[runtime](model)
    images = dict(np.load(inputs))
    first = next(iter(runners.values()))
    results = {name: first(image) for name, image in images.items()}
    for threads, run in runners.items():
        run(images["image0"])  # The first run compiles and allocates.
        results[f"milliseconds_{threads}"] = np.array(_measure_latency(run, images["image0"], int(repeats)))
    np.savez(outputs, **results)  # type: ignore[arg-type]  # As in verify.run.


if __name__ == "__main__":
    main(*sys.argv[1:])
