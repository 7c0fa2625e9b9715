// From strokes on a canvas to an image as those of MNIST.

const SIDE = 28;
// The longer side of a digit of MNIST; the rest is its border.
const BOX = 20;

// The smallest rectangle with all that is not black, or null.
function bounds(pixels, width, height) {
  let left = width, right = -1, top = height, bottom = -1;
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (pixels[4 * (y * width + x)] > 0) {
        left = Math.min(left, x);
        right = Math.max(right, x);
        top = Math.min(top, y);
        bottom = Math.max(bottom, y);
      }
    }
  }
  if (right < 0) return null;
  return {left, top, width: right - left + 1, height: bottom - top + 1};
}

// Adds each pixel of a box, scaled, to the pixel of the image that it falls
// into. (x, y) is where the corner of the box comes to lie. Browsers' own ways
// of scaling differ, and some leave out pixels.
function shrink(pixels, width, box, scale, x, y) {
  const image = new Float32Array(SIDE * SIDE);
  for (let row = 0; row < box.height; row++) {
    for (let column = 0; column < box.width; column++) {
      const from = 4 * ((box.top + row) * width + box.left + column);
      const across = Math.floor(x + (column + 0.5) * scale);
      const down = Math.floor(y + (row + 0.5) * scale);
      if (across < 0 || across >= SIDE || down < 0 || down >= SIDE) continue;
      image[down * SIDE + across] += pixels[from] / 255 * scale * scale;
    }
  }
  // A pixel may get one more row or column than its share.
  return image.map((value) => Math.min(value, 1));
}

// The mean place of the brightness of an image of 28 x 28 pixels.
function center(image) {
  let sum = 0, x = 0, y = 0;
  image.forEach((value, i) => {
    sum += value;
    x += value * (i % SIDE + 0.5);
    y += value * (Math.floor(i / SIDE) + 0.5);
  });
  return {x: x / sum, y: y / sum};
}

function show(image, canvas) {
  const context = canvas.getContext("2d");
  const shown = context.createImageData(SIDE, SIDE);
  for (let i = 0; i < SIDE * SIDE; i++) {
    shown.data.fill(255 * (image?.[i] ?? 0), 4 * i, 4 * i + 3);
    shown.data[4 * i + 3] = 255;
  }
  context.putImageData(shown, 0, 0);
}

// Scales what is drawn into 20 x 20 pixels and puts its center of mass into
// the middle of 28 x 28, as the makers of MNIST did. `small`, a canvas of that
// size, shows the result. Returns its pixels from 0 to 1, row by row, or null
// if nothing is drawn.
export function prepare(paper, small) {
  const {width, height} = paper;
  const pixels = paper.getContext("2d").getImageData(0, 0, width, height).data;
  const box = bounds(pixels, width, height);
  if (!box) {
    show(null, small);
    return null;
  }
  const scale = BOX / Math.max(box.width, box.height);
  const x = (SIDE - box.width * scale) / 2;
  const y = (SIDE - box.height * scale) / 2;
  const middle = center(shrink(pixels, width, box, scale, x, y));
  const image = shrink(
    pixels, width, box, scale,
    x + SIDE / 2 - middle.x, y + SIDE / 2 - middle.y);
  show(image, small);
  return image;
}
