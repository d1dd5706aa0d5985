// The page: opens images and the camera, lets worker.js translate them, and shows image and translation with a slider.
"use strict";

const element = (id) => document.getElementById(id);
const [before, after, frame, stage, file] = ["before", "after", "frame", "stage", "file"].map(element);
const READY = "Drop an image anywhere on this page, paste one, or use the camera.";

let model; // The contents of model.json.
let direction; // The chosen element of model.directions.
let worker;
let source = null; // The image to translate: an ImageBitmap, or the <video> of the camera.
let isSample = false; // The source is one of the sample images.
let busy = false; // The worker is translating.
let outdated = false; // The source, its size or the direction changed while the worker was busy.
let settled = { state: "loading", text: "" }; // What the page says when nothing is being translated.

function say(state, text) {
  if (state !== "busy") settled = { state, text };
  document.body.dataset.state = state;
  element("status").textContent = text;
}

// Shows an error until the next action of the user. The status line says again what it said before the failed action.
function fail(text) {
  element("reason").textContent = text;
  element("error").hidden = false;
  say(settled.state, settled.text);
}

const clearError = () => (element("error").hidden = true);

async function start() {
  if (location.protocol === "file:") {
    say("failed", "");
    fail("Browsers do not let a page from the disk load its model. Serve this folder, for example by running " +
      "“python -m http.server” in it, and open http://localhost:8000.");
    return;
  }
  try {
    model = await (await fetch("model.json")).json();
    worker = new Worker("worker.js", { type: "module" });
  } catch (error) {
    say("failed", "");
    fail(`The model cannot be loaded: ${error.message}`);
    return;
  }
  for (const side of [...new Set([128, 256, 384, 512, 768, 1024, model.maxSide])].sort((a, b) => a - b)) {
    element("side").add(new Option(`${side} px`, side, false, side === model.maxSide));
  }
  element("directions").hidden = model.directions.length < 2;
  for (const each of model.directions) {
    const button = document.createElement("button");
    button.type = "button";
    button.role = "radio";
    button.textContent = `${each.from} → ${each.to}`;
    button.addEventListener("click", () => each !== direction && choose(each));
    button.addEventListener("keydown", (event) => {
      if (!event.key.startsWith("Arrow")) return;
      event.preventDefault();
      const other = button.nextElementSibling ?? button.parentElement.firstElementChild;
      other.click();
      other.focus();
    });
    element("directions").append(button);
  }
  worker.onerror = (event) => fail("The model cannot be loaded: " +
    (event.message || "this browser does not support module workers"));
  worker.onmessage = ({ data }) => receive(data);
  choose(model.directions[0]);
  worker.postMessage({ description: direction });
}

// Changes the direction. A sample image gives way to the first sample of the new direction; another image stays.
function choose(chosen) {
  direction = chosen;
  clearError();
  document.title = element("title").textContent = `${model.name}: ${direction.from} to ${direction.to}`;
  [element("from").textContent, element("to").textContent] = [direction.from, direction.to];
  model.directions.forEach((each, i) => {
    const button = element("directions").children[i];
    button.setAttribute("aria-checked", each === direction);
    button.tabIndex = each === direction ? 0 : -1;
  });
  element("samples").replaceChildren(...direction.samples.map((path, i) => {
    const image = new Image();
    image.src = path;
    image.alt = `Sample image ${i + 1}: ${direction.from}`;
    const button = document.createElement("button");
    button.type = "button";
    button.append(image);
    button.addEventListener("click", () => openSample(path));
    return button;
  }));
  if (settled.state === "loading") return;
  if (source && !isSample) translate();
  else if (direction.samples.length) openSample(direction.samples[0]);
}

function receive(data) {
  if (data.ready) {
    for (const id of ["choose", "camera"]) element(id).disabled = false;
    say("ready", READY);
    if (!source && direction.samples.length) openSample(direction.samples[0]);
    return;
  }
  busy = false;
  if (data.error) {
    const neverLoaded = data.fatal && settled.state === "loading";
    say(...(neverLoaded ? ["failed", ""] : ["ready", READY]));
    fail(data.fatal ? `The model cannot be loaded: ${data.error}` : `The translation failed: ${data.error}. ` +
      "Try a smaller size in the menu “Longer side”.");
    stopCamera();
  } else {
    show(data);
  }
  if (source && (outdated || source.srcObject)) translate();
}

async function openSample(path) {
  try {
    const answer = await fetch(path);
    if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
    await openImage(await answer.blob(), true);
  } catch (error) {
    fail(`${path} cannot be loaded: ${error.message}`);
  }
}

async function openImage(blob, fromSamples = false) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob);
  } catch {
    fail(`This browser cannot read ${blob.name || "the pasted data"} as an image.`);
    return;
  }
  stopCamera();
  clearError();
  source = bitmap;
  isSample = fromSamples;
  translate();
}

// Returns [height, width] of the translation: limits the longer side to the chosen side and keeps the aspect ratio.
function computeSize(height, width) {
  const scale = Math.min(1, Number(element("side").value) / Math.max(height, width));
  return [height, width].map((side) => Math.max(Math.round(side * scale), 1));
}

function translate() {
  if (busy) {
    outdated = true;
    return;
  }
  outdated = false;
  const video = source.srcObject;
  const [height, width] = computeSize(video ? source.videoHeight : source.height, video ? source.videoWidth : source.width);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.fillStyle = "#fff"; // Transparent pixels become white.
  context.fillRect(0, 0, width, height);
  context.drawImage(source, 0, 0, width, height);
  const image = context.getImageData(0, 0, width, height);
  if (!video || stage.hidden) {
    put(before, image);
    stage.hidden = false;
    element("empty").hidden = true;
    after.hidden = !video; // Hide the translation of the previous image.
    element("save").disabled = true;
    layOut();
    clearError();
    say("busy", `Translating ${width} × ${height} pixels …`);
  }
  busy = true;
  translate.image = image;
  worker.postMessage({ description: direction, pixels: image.data.slice().buffer, height, width });
}

function show({ pixels, height, width, seconds }) {
  if (outdated && !source?.srcObject) return; // A newer image is waiting for its translation.
  put(before, translate.image);
  put(after, new ImageData(new Uint8ClampedArray(pixels), width, height));
  after.hidden = false;
  layOut();
  element("save").disabled = false;
  say("done", `${width} × ${height} pixels in ${seconds.toFixed(2)} s on this device`);
}

function put(canvas, image) {
  if (canvas.width !== image.width) canvas.width = image.width;
  if (canvas.height !== image.height) canvas.height = image.height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// Makes the stage as large as the column and the window allow.
function layOut() {
  const aspect = before.width / before.height;
  const isFull = document.fullscreenElement === frame;
  const [most, tallest] = isFull ? [innerWidth, innerHeight] : [frame.clientWidth, 0.78 * innerHeight];
  const width = Math.min(most, tallest * aspect);
  stage.style.width = `${width}px`;
  stage.style.height = `${width / aspect}px`;
}

async function startCamera() {
  let stream;
  element("camera").disabled = true;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
    const video = document.createElement("video");
    video.muted = video.playsInline = true;
    video.srcObject = stream;
    await video.play();
    source = video;
    isSample = false;
    clearError();
    element("camera").setAttribute("aria-pressed", "true");
    element("camera").textContent = "Stop the camera";
    translate();
  } catch (error) {
    for (const track of stream?.getTracks() ?? []) track.stop();
    fail(navigator.mediaDevices ? `The camera cannot be used: ${error.message}.` :
      "Browsers allow the camera only on pages served over https or from localhost.");
  } finally {
    element("camera").disabled = false;
  }
}

function stopCamera() {
  if (!source?.srcObject) return;
  for (const track of source.srcObject.getTracks()) track.stop();
  source = null;
  element("camera").setAttribute("aria-pressed", "false");
  element("camera").textContent = "Use the camera";
}

function setSplit(percent) {
  const value = Math.min(100, Math.max(0, percent));
  element("split").value = value;
  stage.style.setProperty("--split", `${value}%`);
}

function dragSplit(event) {
  const box = stage.getBoundingClientRect();
  setSplit((100 * (event.clientX - box.left)) / box.width);
}

stage.addEventListener("pointerdown", (event) => {
  stage.setPointerCapture(event.pointerId);
  dragSplit(event);
});
stage.addEventListener("pointermove", (event) => event.buttons && dragSplit(event));
element("split").addEventListener("input", (event) => setSplit(Number(event.target.value)));
element("choose").addEventListener("click", () => file.click());
file.addEventListener("change", () => {
  if (file.files.length) openImage(file.files[0]);
  file.value = ""; // Allow choosing the same file again.
});
element("side").addEventListener("change", () => source && translate());
element("camera").addEventListener("click", () => (source?.srcObject ? stopCamera() : startCamera()));
element("save").addEventListener("click", () => after.toBlob((blob) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${model.name}-${direction.direction}.png`;
  link.click();
  URL.revokeObjectURL(link.href);
}));
element("dismiss").addEventListener("click", clearError);
element("enlarge").hidden = !document.fullscreenEnabled;
element("enlarge").addEventListener("pointerdown", (event) => event.stopPropagation()); // Do not move the divider.
element("enlarge").addEventListener("click", () => (document.fullscreenElement ? document.exitFullscreen() : frame.requestFullscreen()));
document.addEventListener("fullscreenchange", layOut);
addEventListener("resize", () => stage.hidden || layOut());
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
addEventListener("dragleave", (event) => event.relatedTarget || document.body.classList.remove("dropping"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  if (event.dataTransfer.files.length && worker) openImage(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => {
  if (event.clipboardData.files.length && worker) openImage(event.clipboardData.files[0]);
});

start();
