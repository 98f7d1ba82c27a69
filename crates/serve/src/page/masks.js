// COCO run lengths to masks, and masks to pixels.

/** Colours of masks, in turn. */
export const COLOURS = [[47, 129, 247], [245, 130, 32], [46, 174, 94], [178, 102, 255], [236, 72, 153], [20, 164, 170]];

/** Runs of COCO's compressed string, background first. */
export function runs(text) {
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
  return counts;
}

/** A mask of 0 and 1, row by row, from { size: [height, width], counts }. */
export function decode({ size: [height, width], counts }) {
  const mask = new Uint8Array(width * height);
  let at = 0, inside = 0;
  for (const run of runs(counts)) {
    if (inside) for (let i = at; i < at + run; i++) mask[(i % height) * width + Math.floor(i / height)] = 1;
    at += run;
    inside ^= 1;
  }
  return { width, height, data: mask };
}

/** A canvas with the mask in a colour: faint inside, firm along its border, with a light rim that shows on its own colour, too. */
export function paint(mask, [r, g, b]) {
  const { width, height, data } = mask;
  const canvas = document.createElement('canvas');
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext('2d');
  const pixels = context.createImageData(width, height);
  const reach = Math.max(1, Math.round(Math.max(width, height) / 400));
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && data[y * width + x];
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const [left, right, above, below] = [inside(x - reach, y), inside(x + reach, y), inside(x, y - reach), inside(x, y + reach)];
      const at = 4 * (y * width + x);
      if (data[y * width + x]) pixels.data.set([r, g, b, left && right && above && below ? 110 : 255], at);
      else if (left || right || above || below) pixels.data.set([255, 255, 255, 210], at);
    }
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** The mask as a black and white PNG. */
export function maskPng(mask) {
  const canvas = document.createElement('canvas');
  canvas.width = mask.width;
  canvas.height = mask.height;
  const context = canvas.getContext('2d');
  const pixels = context.createImageData(mask.width, mask.height);
  mask.data.forEach((on, i) => pixels.data.set([255 * on, 255 * on, 255 * on, 255], 4 * i));
  context.putImageData(pixels, 0, 0);
  return new Promise((done) => canvas.toBlob(done, 'image/png'));
}
