// What the tests share: drawn scenes, a PNG writer, a built model, and the native program as the judge, over `saymask serve`.

import { spawn } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { crc32, deflateSync } from './png.mjs';

/** Numbers that are the same everywhere. */
function random(seed) {
  let state = seed * 2654435761 >>> 0 || 1;
  return (below) => {
    state ^= state << 13; state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5; state >>>= 0;
    return state % below;
  };
}

/** A scene of shapes on a speckled ground: { width, height, rgba }, of a size of its own. */
export function scene(seed) {
  const next = random(seed + 1);
  const [width, height] = [64 + next(300), 64 + next(240)];
  const rgba = new Uint8Array(4 * width * height);
  const ground = [next(256), next(256), next(256)];
  for (let at = 0; at < width * height; at++) rgba.set([...ground.map((v) => Math.min(255, v + next(12))), 255], 4 * at);
  for (let shape = 0; shape < 3; shape++) {
    const colour = [next(256), next(256), next(256), 255];
    const [x0, y0, r, round] = [next(width), next(height), 8 + next(Math.min(width, height) >> 2), next(2)];
    for (let y = Math.max(0, y0 - r); y < Math.min(height, y0 + r); y++) {
      for (let x = Math.max(0, x0 - r); x < Math.min(width, x0 + r); x++) {
        if (!round || (x - x0) ** 2 + (y - y0) ** 2 < r * r) rgba.set(colour, 4 * (y * width + x));
      }
    }
  }
  return { width, height, rgba };
}

/** Questions about a scene: two sentences, and the first one with a click. */
export const questions = ({ width, height }) => [
  { sentence: 'the red circle' },
  { sentence: 'the square on the left' },
  { sentence: 'the red circle', points: [[width >> 1, height >> 1, 1]] },
];

/** The scene as a PNG file. */
export function png({ width, height, rgba }) {
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 6], 8);
  const rows = Buffer.alloc((4 * width + 1) * height);
  for (let y = 0; y < height; y++) rows.set(rgba.subarray(4 * width * y, 4 * width * (y + 1)), (4 * width + 1) * y + 1);
  const signature = Buffer.from([137, 80, 78, 71, 13, 10, 26, 10]);
  return Buffer.concat([signature, chunk('IHDR', head), chunk('IDAT', deflateSync(rows)), chunk('IEND', Buffer.alloc(0))]);
}

/** The files of an exported model by name. */
export function modelFiles(folder) {
  const names = readdirSync(folder).filter((name) => !name.endsWith('.md') && name !== 'index.json');
  return Object.fromEntries(names.map((name) => [name, new Uint8Array(readFileSync(join(folder, name)))]));
}

/** The native program over an exported model: `ask(scene)` gives its run lengths, one per question. */
export async function native(program, model) {
  const child = spawn(program, ['serve', '--weights', model, '--addr', '127.0.0.1:0'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const address = await new Promise((done, failed) => {
    child.stdout.on('data', (data) => { const found = /http:\/\/[\d.:]+/.exec(String(data)); if (found) done(found[0]); });
    child.on('exit', (code) => failed(new Error(`the program ended with ${code}`)));
  });
  const ask = async (scene) => {
    const body = new FormData();
    body.append('image', new Blob([png(scene)], { type: 'image/png' }), 'scene.png');
    body.append('questions', JSON.stringify(questions(scene)));
    const response = await fetch(`${address}/v1/segment`, { method: 'POST', body });
    const answer = await response.json();
    if (!response.ok) throw new Error(JSON.stringify(answer));
    return answer.predictions.map(({ segmentation, area, score }) => ({ counts: segmentation.counts, area, score }));
  };
  return { ask, stop: () => child.kill('SIGTERM') };
}

/**
 * Pixels in which a mask may differ from the native program's: where a logit lies within rounding of the threshold. WebAssembly has no fused
 * multiply-add, so sums round otherwise.
 */
export const MOST_PIXELS_APART = 2;

/** Pixels in which two run lengths of one size differ. */
export function pixelsApart(a, b) {
  const [left, right] = [edges(a), edges(b)];
  let [apart, at, i, j] = [0, 0, 0, 0];
  while (i < left.length || j < right.length) {
    const next = Math.min(left[i] ?? Infinity, right[j] ?? Infinity);
    if ((i + j) % 2) apart += next - at;
    at = next;
    if (left[i] === next) i++;
    if (right[j] === next) j++;
  }
  return apart;
}

/** Where the runs of COCO's compressed string end. */
function edges(text) {
  const counts = [];
  for (let at = 0; at < text.length;) {
    let value = 0, shift = 0, more = true;
    while (more) {
      const part = text.charCodeAt(at++) - 48;
      value |= (part & 31) << (5 * shift++);
      more = (part & 32) !== 0;
      if (!more && part & 16) value |= -1 << (5 * shift);
    }
    counts.push(counts.length > 2 ? value + counts[counts.length - 2] : value);
  }
  let end = 0;
  return counts.map((run) => (end += run));
}
