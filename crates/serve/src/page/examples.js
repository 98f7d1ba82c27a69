// Example scenes, drawn here so that nothing is loaded: shapes and grounds of the kind that `saymask data synth` draws, which the
// small model was trained on.

const WIDTH = 320;
const HEIGHT = 256;
// Plain and second colour.
const RED = ['#da2624', '#76080c'];
const ORANGE = ['#f68a12', '#a84e00'];
const YELLOW = ['#fae028', '#b49204'];
const GREEN = ['#2ca43e', '#0a521c'];
const BLUE = ['#2a5ce2', '#0a1c74'];
const PURPLE = ['#8e34b6', '#460e62'];

/** A path of corners at `turns` of a circle, near and far in turn. */
function corners(c, radii, count, turn = 0) {
  for (let i = 0; i < count; i++) {
    const angle = 2 * Math.PI * (i / count + turn) - Math.PI / 2;
    const radius = radii[i % radii.length];
    c.lineTo(radius * Math.cos(angle), radius * Math.sin(angle));
  }
  c.closePath();
}

const SHAPES = {
  circle: (c, r) => c.arc(0, 0, r, 0, 2 * Math.PI),
  square: (c, r) => c.rect(-0.86 * r, -0.86 * r, 1.72 * r, 1.72 * r),
  star: (c, r) => corners(c, [r, 0.45 * r], 10),
  hexagon: (c, r) => corners(c, [r], 6, 0.04),
  ring: (c, r) => { c.arc(0, 0, r, 0, 2 * Math.PI); c.closePath(); c.moveTo(0.55 * r, 0); c.arc(0, 0, 0.55 * r, 0, 2 * Math.PI, true); },
};

/** A shape of radius `r` around (x, y): plain, striped or checkered. */
function put(c, shape, [x, y, r], [plain, second], texture) {
  c.save();
  c.translate(x, y);
  c.beginPath();
  SHAPES[shape](c, r);
  c.clip();
  c.fillStyle = plain;
  c.fillRect(-r, -r, 2 * r, 2 * r);
  c.fillStyle = second;
  c.rotate(0.35);
  const step = r / 4;
  for (let i = -8; texture && i < 8; i++) {
    for (let j = -8; j < 8; j++) {
      const filled = texture === 'striped' ? i % 2 : (i + j) % 2;
      if (filled) c.fillRect(i * step, j * step, step + 0.5, step + 0.5);
    }
  }
  c.restore();
}

/** A muted ground whose level, -1 to 1, is a function of the place. */
function ground(c, [r, g, b], level) {
  const pixels = c.createImageData(WIDTH, HEIGHT);
  for (let i = 0; i < WIDTH * HEIGHT; i++) {
    const light = 11 * level(i % WIDTH, Math.floor(i / WIDTH));
    pixels.data.set([r + light, g + light, b + light, 255], 4 * i);
  }
  c.putImageData(pixels, 0, 0);
}

/** Numbers from -1 to 1 that look random but are the same each time. */
const hash = (x, y) => { const v = 43758.5453 * Math.sin(12.9898 * x + 78.233 * y); return 2 * (v - Math.floor(v)) - 1; };

function bricks(x, y) {
  const row = Math.floor(y / 32);
  const along = x / 64 + (row % 2) / 2;
  return Math.min(y / 32 - row, along % 1) < 0.1 ? -1 : 0.6 * hash(Math.floor(along), row);
}

export const EXAMPLES = [
  {
    name: 'On a wall',
    sentences: ['the red circle', 'the blue square', 'the rightmost one'],
    draw(c) {
      ground(c, [132, 128, 120], bricks);
      put(c, 'circle', [84, 168, 48], RED);
      put(c, 'square', [176, 78, 50], BLUE);
      put(c, 'star', [252, 176, 54], YELLOW);
    },
  },
  {
    name: 'Large and small',
    sentences: ['the big yellow star', 'the small yellow star', 'the purple ring'],
    draw(c) {
      ground(c, [118, 130, 138], hash);
      put(c, 'star', [104, 138, 82], YELLOW);
      put(c, 'star', [244, 72, 44], YELLOW);
      put(c, 'ring', [238, 184, 46], PURPLE, 'striped');
    },
  },
  {
    name: 'One shape, two places',
    sentences: ['the left hexagon', 'the right hexagon', 'the green circle'],
    draw(c) {
      ground(c, [126, 120, 134], (x, y) => Math.sin((x + 2 * y) / 26));
      put(c, 'hexagon', [70, 150, 46], ORANGE);
      put(c, 'hexagon', [252, 158, 46], ORANGE);
      put(c, 'circle', [162, 74, 46], GREEN, 'checkered');
    },
  },
];

/** The scene on a canvas. */
export function drawn(example) {
  const canvas = document.createElement('canvas');
  canvas.width = WIDTH;
  canvas.height = HEIGHT;
  example.draw(canvas.getContext('2d'));
  return canvas;
}

/** The scene as a PNG file. */
export function file(example) {
  return new Promise((done) => drawn(example).toBlob(done, 'image/png'));
}
