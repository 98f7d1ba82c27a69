// Sizes, times and memory of the package in Node, as JSON: node web/tests/bench.mjs PACKAGE MODEL [SENTENCES]
//   `cargo xtask bench web` runs it and writes docs/performance.md.

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { modelFiles, scene } from './scenes.mjs';

const [folder, modelFolder] = process.argv.slice(2, 4).map((path) => resolve(path));
const count = Number(process.argv[4] ?? 60);
const timed = (call) => {
  const begun = performance.now();
  const result = call();
  return [performance.now() - begun, result];
};
const percentile = (values, share) => [...values].sort((a, b) => a - b)[Math.round((values.length - 1) * share)];

const wasm = readFileSync(`${folder}/saymask_bg.wasm`);
const files = modelFiles(modelFolder);
const begun = performance.now();
const { Model } = await import(pathToFileURL(`${folder}/node.js`));
const started = performance.now() - begun;
const [load, model] = timed(() => Model.load(files));
const [warmUp] = timed(() => model.warmUp());
const image = scene(0);
const [embed, embedding] = timed(() => model.embed(image.rgba, image.width, image.height));
const [ask] = timed(() => model.ask(embedding, [{ sentence: 'the red circle' }]));
const embeds = [], asks = [];
for (let seed = 0; seed < count; seed++) {
  const { rgba, width, height } = scene(seed);
  const [took, made] = timed(() => model.embed(rgba, width, height));
  embeds.push(took);
  asks.push(timed(() => model.ask(made, [{ sentence: 'the red circle' }]).forEach((mask) => mask.free()))[0]);
  made.free();
}
console.log(JSON.stringify({
  node: process.version,
  wasm_bytes: wasm.length,
  gzip_bytes: gzipSync(wasm, { level: 9 }).length,
  brotli_bytes: brotliCompressSync(wasm, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24 } }).length,
  model_bytes: Object.values(files).reduce((sum, bytes) => sum + bytes.length, 0),
  start_ms: started,
  load_ms: load,
  warm_up_ms: warmUp,
  first_mask_ms: embed + ask,
  embed_ms: { p50: percentile(embeds, 0.5), p99: percentile(embeds, 0.99) },
  ask_ms: { p50: percentile(asks, 0.5), p99: percentile(asks, 0.99) },
  sentences: count,
  resident_bytes: process.memoryUsage().rss,
}));
