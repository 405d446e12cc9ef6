// From an image file to the bytes that the network takes, as stages/lib/modalities/image/inputs.py packs them. Browsers shrink images
// in other ways than Pillow does, which changes answers, so Pillow's resampling is written out here, with its fixed-point rounding.

const FRAMED = 5 / 7, LONGEST = 16, BITS = 22
const FILTERS = {
  bilinear: [1, x => Math.max(0, 1 - Math.abs(x))],
  bicubic: [2, x => {
    const a = -0.5
    x = Math.abs(x)
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0
  }],
}

// Halves go to the even neighbour, as Python rounds.
function rounded(value) {
  const below = Math.floor(value), rest = value - below
  return rest < 0.5 || (rest === 0.5 && below % 2 === 0) ? below : below + 1
}

// For each place along one side, the first input that counts and the weights of those from it on.
function weights(length, from, to, size, interpolation) {
  const [reach, filter] = FILTERS[interpolation]
  const scale = Math.fround(to - from) / size, wide = Math.max(scale, 1), support = reach * wide
  return Array.from({ length: size }, (_, place) => {
    const centre = from + (place + 0.5) * scale
    const first = Math.max(0, Math.trunc(centre - support + 0.5))
    const last = Math.min(length, Math.trunc(centre + support + 0.5))
    const each = Array.from({ length: last - first }, (_, step) => filter((step + first - centre + 0.5) / wide))
    const sum = each.reduce((a, b) => a + b, 0)
    return [first, each.map(one => Math.trunc(one / sum * 2 ** BITS + (one < 0 ? -0.5 : 0.5)))]
  })
}

// The nearest inputs, with the rounding that comes from adding up steps.
function steps(from, to, size) {
  const step = Math.fround(to - from) / size
  let at = from + step * 0.5
  return Array.from({ length: size }, () => { const now = Math.trunc(at); at += step; return now })
}

function clipped(sum) {
  return Math.max(0, Math.min(255, sum >> BITS))
}

// image: {data, width, height, channels}; box: left, top, right, bottom in the image.
function resized(image, width, height, interpolation, box = [0, 0, image.width, image.height]) {
  const { channels } = image
  const [left, top, right, bottom] = box.map(Math.fround)  // as Pillow takes them
  if (interpolation === "nearest") {
    const data = new Uint8Array(width * height * channels)
    const rows = steps(top, bottom, height), columns = steps(left, right, width)
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) for (let c = 0; c < channels; c++) {
      data[(y * width + x) * channels + c] = image.data[(rows[y] * image.width + columns[x]) * channels + c]
    }
    return { data, width, height, channels }
  }
  const across = width !== image.width || left !== 0 || right !== width, down = height !== image.height || top !== 0 || bottom !== height
  const horizontal = image => across ? resizedAcross(image, weights(image.width, left, right, width, interpolation)) : image
  const vertical = image => down ? resizedDown(image, weights(image.height, top, bottom, height, interpolation)) : image
  const less = image.height - height  // as Pillow 13 decides which comes first, which matters to the rounding
  return less > 0 && less > 2 * (image.width - width) ? horizontal(vertical(image)) : vertical(horizontal(image))
}

function resizedAcross({ data: from, width: before, height, channels }, places) {
  const width = places.length, data = new Uint8Array(width * height * channels)
  places.forEach(([first, each], x) => {
    for (let y = 0; y < height; y++) for (let c = 0; c < channels; c++) {
      let sum = 2 ** (BITS - 1)
      for (let step = 0; step < each.length; step++) sum += from[(y * before + first + step) * channels + c] * each[step]
      data[(y * width + x) * channels + c] = clipped(sum)
    }
  })
  return { data, width, height, channels }
}

function resizedDown({ data: from, width, channels }, places) {
  const row = width * channels, height = places.length, data = new Uint8Array(height * row)
  places.forEach(([first, each], y) => {
    for (let at = 0; at < row; at++) {
      let sum = 2 ** (BITS - 1)
      for (let step = 0; step < each.length; step++) sum += from[(first + step) * row + at] * each[step]
      data[y * row + at] = clipped(sum)
    }
  })
  return { data, width, height, channels }
}

// A part of an image, which may lie beside it: what is not there is black.
function cut(image, left, top, width, height) {
  const { channels } = image, data = new Uint8Array(width * height * channels)
  for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) {
    const row = y + top, column = x + left
    if (row < 0 || column < 0 || row >= image.height || column >= image.width) continue
    for (let c = 0; c < channels; c++) data[(y * width + x) * channels + c] = image.data[(row * image.width + column) * channels + c]
  }
  return { data, width, height, channels }
}

function packed(image, how) {
  const { px, fit, interpolation } = how
  if (fit === "squash") return resized(image, px, px, interpolation)
  if (fit === "frame") {
    const longest = Math.max(image.width, image.height)
    const [width, height] = [image.width, image.height].map(side => Math.max(1, rounded(FRAMED * px * side / longest)))
    const small = resized(image, width, height, interpolation)
    return cut(small, -Math.floor((px - width) / 2), -Math.floor((px - height) / 2), px, px)
  }
  const shortest = Math.min(image.width, image.height), short = Math.trunc(px / how.crop_pct + 1e-6)
  const [width, height] = [image.width, image.height].map(side => side === shortest ? short : Math.trunc(short * side / shortest))
  const [left, top] = [width, height].map(side => rounded((side - px) / 2))
  if (Math.max(width, height) > LONGEST * px) {
    const across = image.width / width, down = image.height / height
    return resized(image, px, px, interpolation, [left * across, top * down, (left + px) * across, (top + px) * down])
  }
  return cut(resized(image, width, height, interpolation), left, top, px, px)
}

// An image file as the browser decodes it: upright, without colour management, its transparency ignored.
async function decoded(file, channels) {
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" })
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height), context = canvas.getContext("2d")
  context.drawImage(bitmap, 0, 0)
  const { data: four } = context.getImageData(0, 0, bitmap.width, bitmap.height)
  const data = new Uint8Array(bitmap.width * bitmap.height * channels)
  for (let from = 0, to = 0; from < four.length; from += 4, to += channels) {
    if (channels === 1) data[to] = (four[from] * 19595 + four[from + 1] * 38470 + four[from + 2] * 7471 + 0x8000) >> 16
    else data.set(four.subarray(from, from + 3), to)
  }
  return { data, width: bitmap.width, height: bitmap.height, channels }
}
