// For Node: the program is read from the file beside this one, so nothing is awaited.

import { readFileSync } from 'node:fs';
import { initSync } from './saymask.js';

initSync({ module: readFileSync(new URL('./saymask_bg.wasm', import.meta.url)) });

export * from './saymask.js';
/** What a browser awaits; here everything is ready. */
export default async function init() {}
