// Point clouds as they come from the server: packs of typed arrays fetched by address, and a
// grid that finds the nearest point. An address holds its content's hash, so that what was
// fetched once is never asked for again, on any page.

const ARRAYS = { uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, int32: Int32Array };
const MOST_BYTES = 96e6; // of kept packs; the longest unused go first
const FULL = 65535;

const packs = new Map(); // address -> { promise, bytes }

function fetchPack(url) {
  let kept = packs.get(url);
  if (kept) packs.delete(url); // set again below: the newest stand last
  else {
    kept = { bytes: 0 };
    kept.promise = fetch(url)
      .then((answer) => {
        if (!answer.ok) throw new Error(`${answer.status} for ${url}`);
        return answer.arrayBuffer();
      })
      .then((buffer) => {
        kept.bytes = buffer.byteLength;
        return unpack(buffer);
      });
    kept.promise.catch(() => packs.delete(url));
  }
  packs.set(url, kept);
  let total = [...packs.values()].reduce((sum, each) => sum + each.bytes, 0);
  for (const [old, { bytes }] of packs) {
    if (total <= MOST_BYTES || old === url) break;
    packs.delete(old);
    total -= bytes;
  }
  return kept.promise;
}

// A pack: length of the header, the header as JSON, the arrays at the offsets that it names.
function unpack(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const pack = { ...header.meta };
  for (const [name, part] of Object.entries(header.arrays)) {
    pack[name] = new ARRAYS[part.type](buffer, part.offset, part.length);
  }
  return pack;
}

// Bits of the server's numpy.packbits, as one byte a point; nothing for none.
function bits(text, count) {
  if (!text) return null;
  const raw = atob(text);
  const flags = new Uint8Array(count);
  for (let i = 0; i < count; i++) flags[i] = (raw.charCodeAt(i >> 3) >> (7 - (i & 7))) & 1;
  return flags;
}

class Grid {
  // `xy` is uint16, x and y in turn; 256 × 256 cells, points of a cell one after another.
  constructor(xy) {
    this.xy = xy;
    const count = xy.length / 2;
    const start = new Uint32Array(65537);
    for (let i = 0; i < count; i++) start[this.cell(i) + 1]++;
    for (let c = 0; c < 65536; c++) start[c + 1] += start[c];
    const next = start.slice();
    this.order = new Uint32Array(count);
    for (let i = 0; i < count; i++) this.order[next[this.cell(i)]++] = i;
    this.start = start;
  }

  cell(i) {
    return ((this.xy[2 * i + 1] >> 8) << 8) | (this.xy[2 * i] >> 8);
  }

  // The point nearest to (x, y) within the radii, all in units of `xy`; -1 where none is.
  nearest(x, y, radiusX, radiusY) {
    const cell = (value) => Math.min(255, Math.max(0, Math.floor(value / 256)));
    let best = -1;
    let least = 1;
    for (let row = cell(y - radiusY); row <= cell(y + radiusY); row++) {
      const from = this.start[(row << 8) | cell(x - radiusX)];
      const to = this.start[((row << 8) | cell(x + radiusX)) + 1];
      for (let k = from; k < to; k++) {
        const i = this.order[k];
        const distance = ((this.xy[2 * i] - x) / radiusX) ** 2 + ((this.xy[2 * i + 1] - y) / radiusY) ** 2;
        if (distance < least) [best, least] = [i, distance];
      }
    }
    return best;
  }
}
