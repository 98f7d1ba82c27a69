// The model in a module worker: `load`, `embed` and `ask` by messages, one after the other.

import init, { Model } from '../saymask-web/saymask.js';

/** Encoded images that are kept. */
const KEPT = 4;

let model = null;
let name = '';
const images = new Map();
let next = 1;
const ready = init();

class Refusal extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

const calls = {
  async load({ files, model: folder }, say) {
    await ready;
    const given = files ?? await fetched(folder, say);
    say('Loading the model …');
    const loaded = Model.load(given);
    loaded.warmUp();
    model?.free();
    for (const { embedding } of images.values()) embedding.free();
    images.clear();
    model = loaded;
    name = files ? 'your own weights' : 'saymask';
    return { name, method: model.method, engine: 'in this browser, on the CPU', sentences: true, points: model.points, attention: false };
  },

  async embed({ file }) {
    const started = performance.now();
    const { data, width, height } = await pixels(file);
    const embedding = present().embed(data, width, height);
    while (images.size >= KEPT) {
      const [oldest, { embedding }] = images.entries().next().value;
      embedding.free();
      images.delete(oldest);
    }
    const id = String(next++);
    images.set(id, { embedding });
    return { id, width, height, kept: false, ms: performance.now() - started };
  },

  async ask({ id, questions }) {
    const image = images.get(id);
    if (!image) throw new Refusal('This image is not kept any more.', 404);
    return { predictions: present().ask(image.embedding, questions).map(answer) };
  },
};

function present() {
  if (!model) throw new Refusal('There is no model yet: drop an exported folder onto the page.', 400);
  return model;
}

/** A mask as the service's API has it; what it held in the program's memory is given back. */
function answer(mask) {
  const { width, height, counts, score, area, notRead } = mask;
  const said = { bbox: [...mask.bbox], score, area, segmentation: { size: [height, width], counts }, presence: null, tokens_not_read: notRead ?? null };
  mask.free();
  return said;
}

/** Decodes an image file, upright, in its own colours. */
async function pixels(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
  } catch {
    throw new Refusal('This file is no image that can be read. Choose a JPEG, PNG or WebP file.', 400);
  }
  const { width, height } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  if (!context) throw new Refusal(`The image has ${width} x ${height} pixels, more than this browser draws: make it smaller.`, 400);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  return { data: new Uint8Array(data.buffer), width, height };
}

/** The model that lies beside the page, as `index.json` lists it. */
async function fetched(folder, say) {
  const list = await get(new URL('index.json', folder)).then((response) => response.json());
  const total = list.files.reduce((sum, file) => sum + file.size, 0);
  const files = {};
  let done = 0;
  for (const file of list.files) {
    const reader = (await get(new URL(file.name, folder))).body.getReader();
    const parts = [];
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      parts.push(part.value);
      done += part.value.length;
      say(`Fetching the model: ${Math.round(100 * done / total)} %`);
    }
    files[file.name] = new Uint8Array(await new Blob(parts).arrayBuffer());
  }
  return files;
}

async function get(url) {
  const response = await fetch(url).catch(() => null);
  if (response?.ok) return response;
  throw new Refusal('No model lies beside this page: drop an exported folder onto it.', response?.status ?? 500);
}

let queue = ready.catch(() => {});
self.addEventListener('message', ({ data: { id, name, args } }) => {
  queue = queue.then(async () => {
    try {
      const result = await calls[name](args, (progress) => self.postMessage({ id, progress }));
      self.postMessage({ id, result });
    } catch (error) {
      const fatal = error instanceof WebAssembly.RuntimeError || /^a defect of Saymask/.test(error?.message ?? error);
      const message = fatal ? `The model could not go on (${error.message ?? error}). It is loaded anew: try again, with a smaller image if this one is large.` : error.message;
      self.postMessage({ id, error: { message, status: error.status ?? (fatal ? 500 : 400), fatal } });
    }
  });
});
