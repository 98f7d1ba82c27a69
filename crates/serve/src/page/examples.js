// Example scenes, drawn here so that nothing is loaded.

const circle = (c, x, y, r, fill) => { c.fillStyle = fill; c.beginPath(); c.arc(x, y, r, 0, 2 * Math.PI); c.fill(); };
const square = (c, x, y, s, fill) => { c.fillStyle = fill; c.fillRect(x, y, s, s); };
const triangle = (c, x, y, s, fill) => {
  c.fillStyle = fill;
  c.beginPath();
  c.moveTo(x, y - s);
  c.lineTo(x + s, y + 0.8 * s);
  c.lineTo(x - s, y + 0.8 * s);
  c.fill();
};
const ground = (c, fill, w = 320, h = 240) => { c.fillStyle = fill; c.fillRect(0, 0, w, h); };

export const EXAMPLES = [
  {
    name: 'Two circles and a square',
    sentences: ['the red circle', 'the blue square', 'the circle on the right'],
    draw(c) {
      ground(c, '#e6e0d4');
      circle(c, 84, 132, 46, '#d3372f');
      square(c, 150, 40, 70, '#2f5fd0');
      circle(c, 262, 172, 34, '#2e9d55');
    },
  },
  {
    name: 'Triangles, large and small',
    sentences: ['the large yellow triangle', 'the smallest triangle', 'the purple square'],
    draw(c) {
      ground(c, '#cfd8dc');
      triangle(c, 108, 130, 74, '#e3b01f');
      triangle(c, 232, 76, 30, '#e3b01f');
      square(c, 214, 150, 60, '#7c4bc4');
    },
  },
  {
    name: 'One colour, different places',
    sentences: ['the green circle at the top', 'left one', 'the square below'],
    draw(c) {
      ground(c, '#343a46');
      circle(c, 200, 56, 32, '#45b36b');
      circle(c, 70, 120, 44, '#45b36b');
      square(c, 170, 138, 76, '#45b36b');
    },
  },
];

/** The scene on a canvas of 320 x 240. */
export function drawn(example) {
  const canvas = document.createElement('canvas');
  canvas.width = 320;
  canvas.height = 240;
  example.draw(canvas.getContext('2d'));
  return canvas;
}

/** The scene as a PNG file. */
export function file(example) {
  return new Promise((done) => drawn(example).toBlob(done, 'image/png'));
}
