// The page's engine without a server: the model runs in a module worker of this browser. The same calls as `HttpEngine`.

import { EngineError } from './engine.js';

/** What `engine.js` calls: the engine, and a service worker that keeps the page for when there is no network. */
export function create() {
  navigator.serviceWorker?.register(new URL('../sw.js', import.meta.url)).catch(() => {});
  return new WasmEngine();
}

/** Names of a model's files; whatever else is dropped is an image. */
const OF_A_MODEL = /\.(safetensors|toml|json|txt|model|spm)$/i;

export class WasmEngine {
  local = true;
  token = '';
  #worker = null;
  #waiting = new Map();
  #next = 0;
  #files = null;

  setToken() {}

  /** The model: name, method, engine. Its files are fetched once; `say` is told how far that is. */
  async info(say = () => {}) {
    return this.#load(this.#files, say);
  }

  /** Puts a model that was dropped onto the page in the place of the old one, which stays if the new one is refused. */
  async load(dropped, say = () => {}) {
    const files = await read(await dropped);
    const info = await this.#load(files, say);
    this.#files = files;
    return info;
  }

  /** A promise of the files, if what is dropped is a model: its folder, or its files together. */
  weightsIn(transfer) {
    const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    const files = [...transfer.files];
    if (entries.some((entry) => entry.isDirectory)) return Promise.all(entries.map(within)).then((all) => all.flat());
    return files.some((file) => OF_A_MODEL.test(file.name)) ? Promise.resolve(files) : null;
  }

  /** Encodes an image file once: { id, width, height, kept, ms, file }. */
  async embed(file) {
    return { ...(await this.#call('embed', { file })), file };
  }

  /** Answers questions { sentence, points, box } about an embedded image, one mask each. */
  async ask(image, questions) {
    try {
      return await this.#call('ask', { id: image.id, questions });
    } catch (error) {
      if (error.status !== 404) throw error;
      // Dropped for other images meanwhile, or the worker was started anew.
      Object.assign(image, await this.embed(image.file));
      return this.#call('ask', { id: image.id, questions });
    }
  }

  async attention() {
    throw new EngineError('Attention maps are drawn by “saymask serve” alone.', { status: 400 });
  }

  #load(files, say) {
    return this.#call('load', { files, model: new URL('../model/', import.meta.url).href }, say);
  }

  /** Sends a call to the worker, whose answers are `{ progress }` any number of times, then `{ result }` or `{ error }`. */
  #call(name, args, say) {
    const id = this.#next++;
    return new Promise((done, failed) => {
      this.#waiting.set(id, { done, failed, say });
      this.#start().postMessage({ id, name, args });
    });
  }

  #start() {
    if (this.#worker) return this.#worker;
    const worker = new Worker(new URL('./worker.js', import.meta.url), { type: 'module' });
    worker.addEventListener('message', ({ data }) => this.#answered(data));
    worker.addEventListener('error', (event) => this.#broken(event.message || 'the worker could not be started'));
    this.#worker = worker;
    return worker;
  }

  #answered({ id, progress, result, error }) {
    const call = this.#waiting.get(id);
    if (!call) return;
    if (progress) return call.say?.(progress);
    this.#waiting.delete(id);
    if (!error) return call.done(result);
    call.failed(new EngineError(error.message, { status: error.status }));
    // Memory that ran out, or a defect: the program in it cannot be used any more.
    if (error.fatal) this.#broken(error.message);
  }

  #broken(message) {
    this.#worker?.terminate();
    this.#worker = null;
    for (const { failed } of this.#waiting.values()) failed(new EngineError(`The engine stopped: ${message}`, { status: 500 }));
    this.#waiting.clear();
    // The next call finds a model again.
    this.#load(this.#files, () => {}).catch(() => {});
  }
}

/** Every file below an entry of a drop. */
async function within(entry) {
  if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed));
    if (!some.length) break;
    found.push(...some.filter((each) => each.isFile));
  }
  return (await Promise.all(found.map(within))).flat();
}

/** Files as an object of arrays by name, without those that belong to no model. */
async function read(files) {
  const wanted = files.filter((file) => OF_A_MODEL.test(file.name));
  return Object.fromEntries(await Promise.all(wanted.map(async (file) => [file.name, new Uint8Array(await file.arrayBuffer())])));
}
