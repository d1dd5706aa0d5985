"""Runs an exported generator in its own runtime: a script for a fresh process, which has nothing of cyclegan_tf.

  python runner.py RUNTIME MODEL INPUTS.npz OUTPUTS.npz REPEATS

RUNTIME is saved_model, keras, tflite or onnx. INPUTS holds image0, image1 ..., float32 (1, H, W, C) in [-1, 1].
OUTPUTS gets an array of each name, and milliseconds_1, milliseconds_2: the latency of image0 with one and two threads
(all the cores' threads, as milliseconds_0, where the runtime is TensorFlow), the median of REPEATS.
"""

import os
import sys
import time

# Files beside this one are called as packages are, onnx and tflite; Python 3.10 knows no PYTHONSAFEPATH.
if sys.path[0] == os.path.dirname(os.path.abspath(__file__)):
    sys.path.pop(0)

import numpy as np

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Whoever is given the file has neither of these.
sys.modules["cyclegan_tf"] = sys.modules["tensorflow_addons"] = None


def saved_model(path):
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]
    return {0: lambda image: _keep(loaded) and signature(images=tf.constant(image))["images"].numpy()}


def keras(path):
    import tensorflow as tf

    model = tf.keras.models.load_model(path, compile=False)
    # Compiled, as one would use it; with every dimension free it is compiled once.
    specification = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    compiled = tf.function(lambda image: model(image, training=False), input_signature=[specification])
    return {0: lambda image: compiled(image).numpy()}


def tflite(path):
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        import tensorflow as tf

        Interpreter = tf.lite.Interpreter

    def function(threads):
        interpreter = Interpreter(path, num_threads=threads)
        image_in, image_out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
        shape = None

        def run(image):
            nonlocal shape
            if image.shape != shape:
                interpreter.resize_tensor_input(image_in["index"], image.shape, strict=True)
                interpreter.allocate_tensors()
                shape = image.shape
            interpreter.set_tensor(image_in["index"], image)
            interpreter.invoke()
            return interpreter.get_tensor(image_out["index"])

        return run

    return {threads: function(threads) for threads in (1, 2)}


def onnx(path):
    import onnxruntime

    def function(threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda image: session.run(None, {name: image})[0]

    return {threads: function(threads) for threads in (1, 2)}


def _keep(loaded):
    # A signature does not keep the SavedModel's variables alive.
    return loaded is not None


def _latency(run, image, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run(image)
        times.append(time.perf_counter() - start)
    return 1000 * float(np.median(times))


def main(runtime, model, inputs, outputs, repeats):
    functions = {"saved_model": saved_model, "keras": keras, "tflite": tflite, "onnx": onnx}[runtime](model)
    images = dict(np.load(inputs))
    first = next(iter(functions.values()))
    results = {name: first(image) for name, image in images.items()}
    for threads, run in functions.items():
        run(images["image0"])  # Compiles, allocates.
        results[f"milliseconds_{threads}"] = _latency(run, images["image0"], int(repeats))
    np.savez(outputs, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
