// Runs the network in a worker, so that the page stays responsive. Receives and returns 8-bit RGBA pixels.
import * as ort from "./runtime/ort.wasm.bundle.min.mjs";

// The runtime uses one thread: browsers allow more only if the server isolates the page with COOP and COEP headers.
ort.env.logLevel = "error";

let model;
let session;

self.onmessage = async ({ data }) => {
  try {
    if (data.model) {
      model = data.model;
      const answer = await fetch("model.onnx");
      if (!answer.ok) throw new Error(`model.onnx: ${answer.status} ${answer.statusText}`);
      session = await ort.InferenceSession.create(await answer.arrayBuffer(), { executionProviders: ["wasm"] });
      self.postMessage({ ready: true });
      return;
    }
    const start = performance.now();
    const pixels = await translate(new Uint8ClampedArray(data.pixels), data.height, data.width);
    const seconds = (performance.now() - start) / 1000;
    self.postMessage({ pixels: pixels.buffer, height: data.height, width: data.width, seconds }, [pixels.buffer]);
  } catch (error) {
    self.postMessage({ error: String(error.message ?? error), fatal: !session });
  }
};

async function translate(pixels, height, width) {
  const images = new ort.Tensor("float32", toFloat(pixels), [1, height, width, model.inputChannels]);
  const { translations } = await session.run({ images });
  return toPixels(translations.data, pixels.length);
}

// Maps 0 .. 255 to -1 .. 1 and drops alpha. Gray is the weighted mean of ITU-R BT.601.
function toFloat(pixels) {
  const count = pixels.length / 4;
  const floats = new Float32Array(count * model.inputChannels);
  for (let i = 0; i < count; i++) {
    const [r, g, b] = [pixels[4 * i], pixels[4 * i + 1], pixels[4 * i + 2]];
    if (model.inputChannels === 1) {
      floats[i] = (0.299 * r + 0.587 * g + 0.114 * b) / 127.5 - 1;
    } else {
      floats[3 * i] = r / 127.5 - 1;
      floats[3 * i + 1] = g / 127.5 - 1;
      floats[3 * i + 2] = b / 127.5 - 1;
    }
  }
  return floats;
}

// Maps -1 .. 1 to 0 .. 255. The clamped array rounds and clips.
function toPixels(floats, length) {
  const pixels = new Uint8ClampedArray(length);
  for (let i = 0; i < length / 4; i++) {
    for (let channel = 0; channel < 3; channel++) {
      const from = model.outputChannels === 1 ? i : 3 * i + channel;
      pixels[4 * i + channel] = (floats[from] + 1) * 127.5;
    }
    pixels[4 * i + 3] = 255;
  }
  return pixels;
}
