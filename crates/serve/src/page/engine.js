// What the page asks of a model: `info`, `embed` an image, `ask` questions about it, `attention`. Here over HTTP; a page without a
// server has an engine of its own with the same four functions (`web/page/wasm-engine.js`).

/** The engine of this page: the server's, or the one that the page's own `<meta name="saymask-engine">` names. */
export async function connect() {
  const own = document.querySelector('meta[name="saymask-engine"]');
  if (!own) return new HttpEngine();
  return (await import(new URL(own.content, document.baseURI).href)).create();
}

/** An answer that is an error, with a sentence for people. */
export class EngineError extends Error {
  constructor(message, { status = 0, retryAfter = 0 } = {}) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
  /** Whether nobody answered at all. */
  get gone() { return this.status === 0; }
}

const GONE = 'The server does not answer. Is “saymask serve” still running? Start it again, then try again.';

export class HttpEngine {
  constructor(base = '') {
    this.base = base;
    this.token = sessionStorage.getItem('saymask-token') || '';
  }

  setToken(token) {
    this.token = token;
    sessionStorage.setItem('saymask-token', token);
  }

  /** The model: name, method, whether it takes sentences, points, and has attention maps. */
  async info() {
    return (await this.#json('GET', '/v1/models')).models[0];
  }

  /** Encodes an image file once: { id, width, height, kept, ms, file }. */
  async embed(file) {
    const body = new FormData();
    body.append('image', file, 'image');
    return { ...(await this.#json('POST', '/v1/images', body)), file };
  }

  /** Answers questions { sentence, points, box } about an embedded image, one mask each. */
  async ask(image, questions) {
    const path = `/v1/images/${image.id}/segment`;
    const body = JSON.stringify({ questions });
    try {
      return await this.#json('POST', path, body);
    } catch (error) {
      if (error.status !== 404) throw error;
      // Dropped for other images meanwhile.
      await this.embed(image.file);
      return this.#json('POST', path, body);
    }
  }

  /** A drawing of where words looked, as a Blob. */
  async attention(image, sentence) {
    const body = new FormData();
    body.append('image', image.file, 'image');
    body.append('sentence', sentence);
    return (await this.#send('POST', '/v1/attention', body)).blob();
  }

  async #json(method, path, body) {
    return (await this.#send(method, path, body)).json();
  }

  async #send(method, path, body) {
    const headers = {};
    if (this.token) headers.Authorization = `Bearer ${this.token}`;
    if (typeof body === 'string') headers['Content-Type'] = 'application/json';
    let response;
    try {
      response = await fetch(this.base + path, { method, headers, body });
    } catch {
      throw new EngineError(GONE);
    }
    if (response.ok) return response;
    const said = await response.json().catch(() => ({}));
    const message = said.error?.message || `The server answered with ${response.status}.`;
    throw new EngineError(message, { status: response.status, retryAfter: Number(response.headers.get('Retry-After') || 0) });
  }
}
