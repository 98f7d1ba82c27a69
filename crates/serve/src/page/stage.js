// The canvas: image, masks, clicks, a crosshair for the keyboard. It knows no model and no server.

export class Stage {
  /** `on.click(x, y, label)`, `on.hover(item or null)`, `on.undo()`. */
  constructor(canvas, on) {
    this.canvas = canvas;
    this.context = canvas.getContext('2d');
    this.on = on;
    this.items = [];
    this.chosen = null;
    this.hovered = null;
    this.cross = null;
    canvas.addEventListener('pointermove', (event) => this.#hover(this.#place(event)));
    canvas.addEventListener('pointerleave', () => this.#hover(null));
    canvas.addEventListener('click', (event) => this.#click(this.#place(event), event.altKey ? 0 : null));
    canvas.addEventListener('contextmenu', (event) => {
      event.preventDefault();
      this.#click(this.#place(event), 0);
    });
    canvas.addEventListener('keydown', (event) => this.#key(event));
    canvas.addEventListener('blur', () => { this.cross = null; this.draw(); });
    canvas.addEventListener('focus', () => {
      if (this.bitmap && canvas.matches(':focus-visible')) {
        this.cross = [Math.floor(this.width / 2), Math.floor(this.height / 2)];
        this.draw();
      }
    });
  }

  show(bitmap, width, height) {
    Object.assign(this, { bitmap, width, height });
    // Small images get more pixels to be drawn with, so that clicks and borders are sharp.
    this.scale = Math.max(1, Math.min(4, Math.round(1280 / width)));
    this.canvas.width = this.scale * width;
    this.canvas.height = this.scale * height;
    this.items = [];
    this.cross = null;
    this.draw();
  }

  update(items, chosen, hovered = this.hovered) {
    Object.assign(this, { items, chosen, hovered });
    this.draw();
  }

  draw() {
    const { context, canvas, width, height, scale } = this;
    if (!this.bitmap) return;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    context.globalAlpha = 1;
    context.drawImage(this.bitmap, 0, 0, width, height);
    for (const item of this.items) {
      if (!item.visible || !item.painted) continue;
      context.globalAlpha = this.hovered?.visible && this.hovered !== item ? 0.35 : 1;
      context.drawImage(item.painted, 0, 0, width, height);
    }
    context.globalAlpha = 1;
    const unit = width / Math.max(1, canvas.clientWidth || width);
    for (const [x, y, label] of this.chosen?.points ?? []) this.#dot(x, y, label, unit);
    if (this.cross) this.#crosshair(unit);
  }

  #dot(x, y, label, unit) {
    const { context } = this;
    context.beginPath();
    context.arc(x, y, 8 * unit, 0, 2 * Math.PI);
    context.fillStyle = label ? '#15803d' : '#b91c1c';
    context.fill();
    context.lineWidth = 2 * unit;
    context.strokeStyle = '#fff';
    context.stroke();
    context.beginPath();
    context.moveTo(x - 4 * unit, y);
    context.lineTo(x + 4 * unit, y);
    if (label) {
      context.moveTo(x, y - 4 * unit);
      context.lineTo(x, y + 4 * unit);
    }
    context.stroke();
  }

  #crosshair(unit) {
    const { context, width: wide, height: tall, cross: [x, y] } = this;
    for (const [width, style] of [[4 * unit, '#000a'], [2 * unit, '#fff']]) {
      context.lineWidth = width;
      context.strokeStyle = style;
      context.beginPath();
      context.moveTo(x, 0);
      context.lineTo(x, tall);
      context.moveTo(0, y);
      context.lineTo(wide, y);
      context.stroke();
    }
  }

  /** Pixel of the image under the pointer. */
  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    const { width, height } = this;
    const x = (event.clientX - box.left) * width / box.width;
    const y = (event.clientY - box.top) * height / box.height;
    const inside = x >= 0 && y >= 0 && x < width && y < height;
    return inside ? [Math.floor(x), Math.floor(y)] : null;
  }

  #hover(place) {
    const under = place && [...this.items].reverse().find((item) =>
      item.visible && item.mask && item.mask.data[place[1] * item.mask.width + place[0]]);
    if ((under || null) === this.hovered) return;
    this.hovered = under || null;
    this.draw();
    this.on.hover(this.hovered);
  }

  #click(place, label) {
    if (place) this.on.click(...place, label);
  }

  #key(event) {
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const step = steps[event.key];
    this.cross ??= [Math.floor(this.width / 2), Math.floor(this.height / 2)];
    if (step) {
      const far = Math.max(1, Math.round(this.width / (event.shiftKey ? 10 : 100)));
      const limit = (value, most) => Math.min(most - 1, Math.max(0, value));
      this.cross = [limit(this.cross[0] + far * step[0], this.width), limit(this.cross[1] + far * step[1], this.height)];
    } else if (event.key === 'Enter' || event.key === ' ') {
      this.#click(this.cross, 1);
    } else if (event.key === '-') {
      this.#click(this.cross, 0);
    } else if (event.key === 'u' || event.key === 'U') {
      this.on.undo();
    } else {
      return;
    }
    event.preventDefault();
    this.draw();
  }
}
