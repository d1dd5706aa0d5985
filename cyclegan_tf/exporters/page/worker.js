// Runs the network in a worker, so that the page stays responsive. Receives and returns 8-bit RGBA pixels.
import * as ort from "./runtime/ort.wasm.bundle.min.mjs";

// The runtime uses one thread: browsers allow more only if the server isolates the page with COOP and COEP headers.
ort.env.logLevel = "error";

const sessions = new Map(); // By the name of the ONNX file.

// Answers {description} with {ready: true} once the model is loaded, and {description, pixels, height, width} with the
// translated pixels.
self.onmessage = async ({ data: { description, pixels, height, width } }) => {
  let session;
  try {
    session = await load(description.model);
    if (!pixels) {
      self.postMessage({ ready: true });
      return;
    }
    const start = performance.now();
    const translated = await translate(session, description, new Uint8ClampedArray(pixels), height, width);
    const seconds = (performance.now() - start) / 1000;
    self.postMessage({ pixels: translated.buffer, height, width, seconds }, [translated.buffer]);
  } catch (error) {
    self.postMessage({ error: String(error.message ?? error), fatal: !session });
  }
};

async function load(name) {
  if (!sessions.has(name)) {
    const answer = await fetch(name);
    if (!answer.ok) throw new Error(`${name}: ${answer.status} ${answer.statusText}`);
    sessions.set(name, await ort.InferenceSession.create(await answer.arrayBuffer(), { executionProviders: ["wasm"] }));
  }
  return sessions.get(name);
}

async function translate(session, { inputChannels, outputChannels }, pixels, height, width) {
  const images = new ort.Tensor("float32", toFloat(pixels, inputChannels), [1, height, width, inputChannels]);
  const { translations } = await session.run({ images });
  return toPixels(translations.data, pixels.length, outputChannels);
}

// Maps 0 .. 255 to -1 .. 1 and drops alpha. Gray is the weighted mean of ITU-R BT.601.
function toFloat(pixels, channels) {
  const count = pixels.length / 4;
  const floats = new Float32Array(count * channels);
  for (let i = 0; i < count; i++) {
    const [r, g, b] = [pixels[4 * i], pixels[4 * i + 1], pixels[4 * i + 2]];
    if (channels === 1) {
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
function toPixels(floats, length, channels) {
  const pixels = new Uint8ClampedArray(length);
  for (let i = 0; i < length / 4; i++) {
    for (let channel = 0; channel < 3; channel++) {
      const from = channels === 1 ? i : 3 * i + channel;
      pixels[4 * i + channel] = (floats[from] + 1) * 127.5;
    }
    pixels[4 * i + 3] = 255;
  }
  return pixels;
}
