/**
 * A pad to draw digits on, and the image a network for scikit-learn's digits expects of them.
 *
 * Source of the preparation: Alpaydin & Kaynak 1998, "Optical Recognition of Handwritten Digits" (UCI): the ink's
 * bounding box fills 32x32 dots, of which each 4x4 block is counted into one of 8x8 pixels.
 */

const SIZE = 32;
const COARSE = 8;
const PEN = 0.085;
const KEY_STEP = 0.05;
const KEY_MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** One line per stroke, points in a 100x100 square. */
const SAMPLES = [
  ["50,14 33,24 27,50 33,76 50,86 67,76 73,50 67,24 50,14"],
  ["48,19 52,14 52,86"],
  ["30,30 40,16 60,16 70,30 66,46 46,66 28,85 72,85"],
  ["30,18 56,15 68,28 62,42 46,48 64,54 70,70 58,84 30,82"],
  ["60,86 60,15 26,62 76,62"],
  ["68,16 36,16 33,46 54,42 68,54 68,72 54,85 30,82"],
  ["62,15 42,32 32,56 36,78 52,86 66,76 64,60 50,54 36,62"],
  ["28,17 72,17 54,48 44,86", "36,50 66,50"],
  ["50,48 34,36 36,20 50,14 64,20 66,36 50,48 32,62 34,80 50,87 66,80 68,62 50,48"],
  ["66,38 56,48 40,44 34,30 42,17 58,15 66,28 66,52 60,86"],
].map((strokes) => strokes.map((line) => line.split(" ").map((point) => point.split(",").map((v) => v / 100))));

/** Bilinear weights from 8 to 32 pixels, centres aligned: (32, 8). */
const UPSCALE = Array.from({ length: SIZE }, (_, i) => {
  const position = Math.min(Math.max(((i + 0.5) * COARSE) / SIZE - 0.5, 0), COARSE - 1);
  return Array.from({ length: COARSE }, (_, j) => Math.max(0, 1 - Math.abs(position - j)));
});

/** Whether a session looks like a classifier of 32x32 grey digits. */
export function isDigitModel({ inputs, outputs }) {
  const shapes = [...inputs, ...outputs].map((spec) => spec.shape.join("x")).join(" ");
  return shapes === "1x1x32x32 1x10" && inputs[0].dtype === "float32";
}

export class DigitPad {
  #canvas;
  #context;
  #onChange;
  #last = null;
  #pen = { x: 0.5, y: 0.2, down: false };

  /** Calls `onChange` after every change of the drawing. */
  constructor(canvas, onChange) {
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d", { willReadFrequently: true });
    this.#onChange = onChange;
    canvas.addEventListener("pointerdown", (event) => this.#pointerDown(event));
    canvas.addEventListener("pointermove", (event) => this.#pointerMove(event));
    canvas.addEventListener("keydown", (event) => this.#keyDown(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, () => (this.#last = null));
    }
  }

  clear() {
    this.#context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    this.#pen = { x: 0.5, y: 0.2, down: false };
    this.#onChange();
  }

  drawSample(digit) {
    this.clear();
    for (const stroke of SAMPLES[digit]) {
      stroke.slice(1).forEach((point, i) => this.#line(stroke[i], point));
    }
    this.#onChange();
  }

  /** Takes ink from elsewhere: pixels whose alpha is the ink. */
  setInk(pixels) {
    this.clear();
    this.#context.putImageData(pixels, 0, 0);
    this.#context.globalCompositeOperation = "source-in";
    this.#context.fillStyle = getComputedStyle(this.#canvas).color;
    this.#context.fillRect(0, 0, this.#canvas.width, this.#canvas.height);
    this.#context.globalCompositeOperation = "source-over";
    this.#onChange();
  }

  /** Returns (32 x 32) values in [0, 1], or null when nothing is drawn. */
  image() {
    const box = this.#inkBox();
    return box === null ? null : upscale(this.#countBlocks(box));
  }

  #pointerDown(event) {
    this.#canvas.setPointerCapture(event.pointerId);
    this.#last = this.#position(event);
    this.#draw(this.#last, this.#last);
  }

  #pointerMove(event) {
    if (this.#last !== null) {
      const next = this.#position(event);
      this.#draw(this.#last, next);
      this.#last = next;
    }
  }

  #keyDown(event) {
    const move = KEY_MOVES[event.key];
    if (move !== undefined) {
      this.#movePen(move);
    } else if (event.key === " ") {
      this.#pen.down = !this.#pen.down;
      this.#movePen([0, 0]);
    } else if (event.key === "Delete" || event.key === "Backspace") {
      this.clear();
    } else {
      return;
    }
    event.preventDefault();
  }

  #movePen([dx, dy]) {
    const { x, y, down } = this.#pen;
    const inside = (value) => Math.min(Math.max(value, PEN / 2), 1 - PEN / 2);
    Object.assign(this.#pen, { x: inside(x + dx * KEY_STEP), y: inside(y + dy * KEY_STEP) });
    if (down) {
      this.#draw([x, y], [this.#pen.x, this.#pen.y]);
    }
  }

  #position(event) {
    const frame = this.#canvas.getBoundingClientRect();
    return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
  }

  #draw(from, to) {
    this.#line(from, to);
    this.#onChange();
  }

  #line([x0, y0], [x1, y1]) {
    const { width, height } = this.#canvas;
    const context = this.#context;
    context.strokeStyle = getComputedStyle(this.#canvas).color;
    context.lineWidth = PEN * width;
    context.lineCap = "round";
    context.beginPath();
    context.moveTo(x0 * width, y0 * height);
    context.lineTo(x1 * width, y1 * height);
    context.stroke();
  }

  #inkBox() {
    const { width, height } = this.#canvas;
    const { data } = this.#context.getImageData(0, 0, width, height);
    let [left, top, right, bottom] = [width, height, -1, -1];
    for (let i = 3; i < data.length; i += 4) {
      if (data[i] > 127) {
        const x = (i >> 2) % width;
        const y = Math.floor((i >> 2) / width);
        [left, top] = [Math.min(left, x), Math.min(top, y)];
        [right, bottom] = [Math.max(right, x), Math.max(bottom, y)];
      }
    }
    return right < 0 ? null : { left, top, width: right - left + 1, height: bottom - top + 1 };
  }

  /** Returns (8 x 8) fractions of ink, the box scaled to fill the height and centred. */
  #countBlocks({ left, top, width, height }) {
    const small = new OffscreenCanvas(SIZE, SIZE).getContext("2d");
    const scale = SIZE / Math.max(width, height);
    small.imageSmoothingQuality = "high";
    const [w, h] = [width * scale, height * scale];
    small.drawImage(this.#canvas, left, top, width, height, (SIZE - w) / 2, (SIZE - h) / 2, w, h);
    const { data } = small.getImageData(0, 0, SIZE, SIZE);
    const blocks = Array.from({ length: COARSE }, () => new Array(COARSE).fill(0));
    for (let i = 0; i < SIZE * SIZE; i++) {
      const inked = data[4 * i + 3] > 127 ? 1 : 0;
      blocks[Math.floor(i / SIZE) >> 2][(i % SIZE) >> 2] += inked / 16;
    }
    return blocks;
  }
}

function upscale(blocks) {
  const rows = UPSCALE.map((weights) => combine(weights, blocks));
  return Float32Array.from(rows.flatMap((row) => UPSCALE.map((weights) => dot(weights, row))));
}

function combine(weights, rows) {
  return rows[0].map((_, j) => dot(weights, rows.map((row) => row[j])));
}

function dot(left, right) {
  return left.reduce((sum, value, i) => sum + value * right[i], 0);
}
