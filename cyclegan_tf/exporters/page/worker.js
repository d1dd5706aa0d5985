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

// Translates an image. If the network does not accept the size of the image, pads the image by reflection at the bottom
// and the right, and crops the translation.
async function translate(session, description, pixels, height, width) {
  const { inputChannels, outputChannels } = description;
  const [rows, columns] = [extend(height, description), extend(width, description)];
  const floats = toFloat(pixels, width, rows, columns, inputChannels);
  const images = new ort.Tensor("float32", floats, [1, rows.length, columns.length, inputChannels]);
  const { translations } = await session.run({ images });
  return toPixels(translations.data, height, width, columns.length, outputChannels);
}

// Pixel indices 0 .. size - 1, continued by reflection up to the next size that the network accepts.
function extend(size, { multiple, minimum }) {
  const length = Math.ceil(Math.max(size, minimum) / multiple) * multiple;
  return Uint32Array.from({ length }, (_, i) => (i < size ? i : Math.max(2 * (size - 1) - i, 0)));
}

// Takes the pixels in these rows and columns, maps 0 .. 255 to -1 .. 1 and drops alpha. Gray is the weighted mean of
// ITU-R BT.601.
function toFloat(pixels, width, rows, columns, channels) {
  const floats = new Float32Array(rows.length * columns.length * channels);
  let to = 0;
  for (const row of rows) {
    for (const column of columns) {
      const from = 4 * (row * width + column);
      const [r, g, b] = [pixels[from], pixels[from + 1], pixels[from + 2]];
      if (channels === 1) {
        floats[to++] = (0.299 * r + 0.587 * g + 0.114 * b) / 127.5 - 1;
      } else {
        floats[to++] = r / 127.5 - 1;
        floats[to++] = g / 127.5 - 1;
        floats[to++] = b / 127.5 - 1;
      }
    }
  }
  return floats;
}

// Crops to the first `height` rows and the first `width` of `stride` columns, and maps -1 .. 1 to 0 .. 255. The clamped
// array rounds and clips.
function toPixels(floats, height, width, stride, channels) {
  const pixels = new Uint8ClampedArray(4 * height * width);
  for (let row = 0, to = 0; row < height; row++) {
    for (let column = 0; column < width; column++) {
      const from = channels * (row * stride + column);
      for (let channel = 0; channel < 3; channel++) {
        pixels[to++] = (floats[channels === 1 ? from : from + channel] + 1) * 127.5;
      }
      pixels[to++] = 255;
    }
  }
  return pixels;
}
