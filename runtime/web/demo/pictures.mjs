/** Pictures from a file, by choosing or dropping one, at the size that a model's input has. */

/** What networks for ImageNet were trained on: every channel's mean and deviation. */
export const IMAGENET = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };

/** Whether a session's first input is one picture. */
export function takesPictures({ inputs: [input] }) {
  const { shape, dtype } = input ?? { shape: [] };
  return dtype === "float32" && shape.length === 4 && shape[0] === 1 && [1, 3].includes(shape[1]);
}

/**
 * Has pictures chosen with `field` or dropped on `area` handed over as bitmaps.
 *
 * @param onFailure Called with a sentence when a file is no picture.
 */
export function acceptPictures(field, area, onPicture, onFailure) {
  const take = async (file) => {
    if (!file) {
      return;
    }
    try {
      onPicture(await createImageBitmap(file));
    } catch {
      onFailure(`${file.name} is no picture that this browser can read.`);
    }
  };
  field.addEventListener("change", () => take(field.files[0]));
  area.addEventListener("dragover", (event) => {
    event.preventDefault();
    area.classList.add("over");
  });
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
}

/** Draws the middle square of a bitmap over all of a canvas; returns its pixels. */
export function fillCanvas(canvas, bitmap) {
  const { width, height } = canvas;
  const scale = Math.min(bitmap.width / width, bitmap.height / height);
  const [w, h] = [width * scale, height * scale];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.clearRect(0, 0, width, height);
  context.drawImage(bitmap, (bitmap.width - w) / 2, (bitmap.height - h) / 2, w, h, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/** Returns the same pixels with how much they differ from their border, as alpha: ink on nothing. */
export function inkOf({ data, width, height }) {
  const luma = (i) => 0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2];
  const border = [];
  for (let i = 0; i < width * height; i++) {
    if (i < width || i >= width * (height - 1) || i % width === 0) {
      border.push(luma(i));
    }
  }
  const ground = border.sort((a, b) => a - b)[border.length >> 1];
  const ink = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const isOpaque = data[4 * i + 3] > 127;
    ink.data[4 * i + 3] = isOpaque && Math.abs(luma(i) - ground) > 64 ? 255 : 0;
  }
  return ink;
}
