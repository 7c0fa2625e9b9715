// Draws a digit, runs all files on it, shows digits, bytes and milliseconds.

import {prepare} from "./image.js";

const ROUNDS = 21;
// Clocks of browsers are coarse: a round takes at least so many milliseconds.
const ROUND_MS = 4;
// Strokes of a three, a seven and a zero, in shares of the paper.
const EXAMPLES = [
  [[0.3, 0.2], [0.62, 0.16], [0.68, 0.32], [0.45, 0.47], [0.7, 0.6],
    [0.66, 0.78], [0.45, 0.85], [0.28, 0.78]],
  [[0.28, 0.2], [0.72, 0.2], [0.56, 0.5], [0.46, 0.85]],
  [[0.5, 0.14], [0.36, 0.22], [0.3, 0.5], [0.37, 0.78], [0.5, 0.86],
    [0.63, 0.78], [0.7, 0.5], [0.64, 0.22], [0.5, 0.14]],
];

const byId = (id) => document.getElementById(id);
const paper = byId("paper");
const pen = paper.getContext("2d", {willReadFrequently: true});
const status = byId("status");

// What tests read: the last image and what each file made of it.
window.demo = {ready: false, result: null};

function say(text, wrong = false) {
  status.textContent = text;
  status.classList.toggle("wrong", wrong);
}

// === Files ===

class File {
  constructor(described, bytes, model, Tensor) {
    this.name = described.file;
    this.bytes = bytes;
    this._model = model;
    this._Tensor = Tensor;
    this._card = makeCard(described, bytes);
    this._shape = Array.from(model.getInputDetails()[0].shape);
    // A free batch is one image here.
    this._shape[0] = 1;
  }

  async logits(image) {
    const input = new this._Tensor(image, this._shape);
    const outputs = await this._model.run([input]);
    const logits = Array.from(outputs[0].toTypedArray());
    outputs.forEach((output) => output.delete());
    input.delete();
    return logits;
  }

  // Milliseconds of one image, from as many as a round takes.
  async time(image, count) {
    const start = performance.now();
    for (let i = 0; i < count; i++) await this.logits(image);
    return (performance.now() - start) / count;
  }

  show(logits) {
    const largest = logits && Math.max(...logits);
    const powers = logits?.map((logit) => Math.exp(logit - largest));
    const sum = powers?.reduce((a, b) => a + b);
    this._card.querySelectorAll(".bars i").forEach((bar, digit) => {
      bar.style.height = `${powers ? 75 * powers[digit] / sum : 0}%`;
    });
    const digit = logits ? logits.indexOf(largest) : "\u2013";
    this._card.querySelector(".digit").textContent = digit;
  }

  showTime(ms) {
    const text = ms === null ? "\u2013" : ms.toFixed(3);
    this._card.querySelector(".ms").textContent = text;
  }
}

function makeCard(described, bytes) {
  const card = byId("card").content.cloneNode(true).firstElementChild;
  card.querySelector("h2").textContent = described.title;
  card.querySelector(".text").textContent = described.text;
  card.querySelector(".bytes").textContent = bytes.toLocaleString("en");
  for (let digit = 0; digit < 10; digit++) {
    const bar = document.createElement("li");
    bar.append(document.createElement("i"), String(digit));
    card.querySelector(".bars").append(bar);
  }
  byId("cards").append(card);
  return card;
}

async function fetched(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} is not there`);
  return response;
}

async function load() {
  const list = await (await fetched("models/index.json")).json();
  const {Tensor, loadAndCompile, loadLiteRt} = await import("@litertjs/core");
  await loadLiteRt("node_modules/@litertjs/core/wasm/");
  const files = [];
  for (const described of list) {
    const buffer = await (await fetched(`models/${described.file}`))
      .arrayBuffer();
    const model = await loadAndCompile(
      new Uint8Array(buffer), {accelerator: "wasm"});
    files.push(new File(described, buffer.byteLength, model, Tensor));
  }
  return files;
}

// === Running ===

function median(numbers) {
  return [...numbers].sort((a, b) => a - b)[numbers.length >> 1];
}

// All files take turns, so that what else the machine does hits all alike.
async function measure(files, image) {
  const counts = [];
  for (const file of files) {
    let count = 10;
    while (await file.time(image, count) * count < ROUND_MS) count *= 2;
    counts.push(count);
  }
  const times = files.map(() => []);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [i, file] of files.entries()) {
      times[i].push(await file.time(image, counts[i]));
    }
  }
  return times.map(median);
}

// Runs one request after the other; of those that come meanwhile, the last.
function oneAtATime(work) {
  let running = false, next = null;
  return async (...request) => {
    next = request;
    if (running) return;
    running = true;
    try {
      while (next) {
        const current = next;
        next = null;
        await work(...current);
      }
    } catch (error) {
      say(`${error.message ?? error}`, true);
    } finally {
      running = false;
    }
  };
}

async function look(files, timed) {
  const image = prepare(paper, byId("seen"));
  window.demo.result = null;
  if (!image) {
    files.forEach((file) => { file.show(null); file.showTime(null); });
    say("Draw a digit with the mouse or a finger.");
    return;
  }
  const results = [];
  for (const file of files) {
    const logits = await file.logits(image);
    file.show(logits);
    results.push({file: file.name, bytes: file.bytes, logits});
  }
  if (!timed) return;
  say("Measuring\u2026");
  const times = await measure(files, image);
  files.forEach((file, i) => {
    file.showTime(times[i]);
    results[i].ms = times[i];
  });
  const smaller = files[0].bytes / Math.min(...files.map((f) => f.bytes));
  const faster = times[0] / Math.min(...times);
  say(`The smallest file has 1/${Math.round(smaller)} of the bytes; ` +
    `the fastest is ${faster.toFixed(1)} times as fast.`);
  window.demo.result = {image: Array.from(image), files: results};
}

// === Drawing ===

function clear() {
  pen.fillStyle = "#000";
  pen.fillRect(0, 0, paper.width, paper.height);
}

function line(from, to) {
  pen.strokeStyle = "#fff";
  pen.lineWidth = 20;
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

function place(event) {
  const box = paper.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}

function listen(changed) {
  let last = null, number = 0;
  paper.addEventListener("pointerdown", (event) => {
    paper.setPointerCapture(event.pointerId);
    last = place(event);
    line(last, last);
    changed(false);
  });
  paper.addEventListener("pointermove", (event) => {
    if (!last) return;
    const now = place(event);
    line(last, now);
    last = now;
    changed(false);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    paper.addEventListener(end, () => {
      if (last) changed(true);
      last = null;
    });
  }
  byId("clear").addEventListener("click", () => {
    clear();
    changed(false);
  });
  byId("example").addEventListener("click", () => {
    clear();
    const strokes = EXAMPLES[number++ % EXAMPLES.length].map(
      ([x, y]) => [x * paper.width, y * paper.height]);
    strokes.slice(1).forEach((to, i) => line(strokes[i], to));
    changed(true);
  });
}

clear();
try {
  const files = await load();
  listen(oneAtATime((timed) => look(files, timed)));
  say("Draw a digit with the mouse or a finger.");
  window.demo.ready = true;
} catch (error) {
  say(`The page needs LiteRT's runtime and the files beside it, and ` +
    `${error.message ?? error}. "make web-demo" puts them there.`, true);
}
