/* The sounds of regions. The page holds the sound of each clip once. The region alone, and the clip without it, are cut
   out of it when they are played, as captum_apex/audio/cutting.py does it: by masks on short-time Fourier transforms. */
const OVERLAP = 8; // number of windows over each sample
const [LEAD, FALL, FALL_BINS] = [1 / 8, 1 / 4, 3]; // fades of a mask: in windows of time, and in bins of frequency
const DECODABLE = [8000, 96000]; // sample rates in Hz that every browser decodes to
const MOST_DECODED = 4; // decoded clips in memory
const BLOCK = 50; // milliseconds of work, after which the page reacts to its reader again
const decodedClips = new Map();

/* A wav file of a sound, in which browsers seek exactly. */
async function soundFile(name) {
  const sound = facts.sounds[name];
  const { samples, rate } = "of" in sound ? await cutSound(sound) : await decodedClip(name);
  return new Blob([waveFile(samples, rate)], { type: "audio/wav" });
}

/* A sound that is cut out of a clip: `of` is the clip's sound, `first` and `last` are the seconds to keep. */
async function cutSound({ of, cuts, without, first, last }) {
  const { samples, rate } = await decodedClip(of);
  let rest = samples;
  for (const cut of cuts) rest = rest.map(minus(await soundOfCut(rest, rate, cut)));
  const sound = without ? rest : samples.map(minus(rest));
  return { samples: sound.subarray(Math.round(first * rate), Math.round(last * rate)), rate };
}

const minus = (other) => (value, index) => value - other[index];

function decodedClip(name) {
  if (!decodedClips.has(name)) {
    if (decodedClips.size >= MOST_DECODED) decodedClips.delete(decodedClips.keys().next().value);
    decodedClips.set(name, decoded(facts.sounds[name]));
  }
  return decodedClips.get(name);
}

async function decoded({ data, rate }) {
  const context = new OfflineAudioContext(1, 1, Math.min(Math.max(rate, DECODABLE[0]), DECODABLE[1]));
  const buffer = await context.decodeAudioData(bytesOf(data).buffer);
  return { samples: Float64Array.from(buffer.getChannelData(0)), rate: buffer.sampleRate };
}

function bytesOf(data) {
  return Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
}

/* The sound of one box in a sound; null is a side at the end of the input, and the window is given in seconds. */
async function soundOfCut(sound, rate, { low, high, start, end, window }) {
  const hop = Math.max(1, Math.floor(Math.min(Math.round(window * rate), sound.length) / OVERLAP));
  const size = hop * OVERLAP;
  const length = size / rate;
  const hann = Float64Array.from({ length: size }, (_, index) => 0.5 - 0.5 * Math.cos((2 * Math.PI * index) / size));
  const rows = faded(size / 2 + 1, rate / size, low, high, 0, FALL_BINS / length);
  const columns = faded(1 + Math.floor(sound.length / hop), hop / rate, start, end, LEAD * length, FALL * length);
  const filter = rows.every((row) => row === 1) ? null : circularFilter(rows, size);
  const total = new Float64Array(sound.length + 2 * size);
  const weight = new Float64Array(total.length);
  const frames = [new Float64Array(size), new Float64Array(size)];
  let pause = performance.now() + BLOCK;
  for (let column = 0; column < columns.length; column += 2) {
    if (performance.now() > pause) {
      await new Promise((resolve) => setTimeout(resolve));
      pause = performance.now() + BLOCK;
    }
    const pair = [columns[column], columns[column + 1] ?? 0];
    if (pair[0] || pair[1]) {
      frames.forEach((frame, each) => windowed(frame, sound, hann, (column + each) * hop - size / 2));
      filter?.(...frames); // one complex transform for two real frames
    }
    pair.forEach((share, each) => {
      if (column + each < columns.length) addFrame(total, weight, frames[each], hann, share, (column + each) * hop);
    });
  }
  return sound.map((_, index) => total[index + size / 2] / weight[index + size / 2]);
}

/* 1 from `low − lead` to `high + lead`, and a raised cosine to 0 over `width` on either side. */
function faded(count, step, low, high, lead, width) {
  return Float64Array.from({ length: count }, (_, index) => {
    const outside = Math.max((low ?? -Infinity) - index * step, index * step - (high ?? Infinity));
    return 0.5 + 0.5 * Math.cos(Math.PI * Math.min(Math.max((outside - lead) / width, 0), 1));
  });
}

/* A frame of a sound that is mirrored at its ends, times the window. */
function windowed(frame, sound, hann, first) {
  const last = sound.length - 1;
  for (let index = 0; index < frame.length; index++) {
    let place = Math.abs(first + index);
    if (place > last) place = Math.max(2 * last - place, 0);
    frame[index] = sound[place] * hann[index];
  }
}

function addFrame(total, weight, frame, hann, share, first) {
  for (let index = 0; index < frame.length; index++) {
    if (share) total[first + index] += share * frame[index] * hann[index];
    weight[first + index] += hann[index] * hann[index];
  }
}

/* Multiplies the spectrum of two real frames by the mask of rows. The size is no power of two: so the frames are
   convolved with the mask's impulse response by longer transforms, and what lies behind their end is added in front. */
function circularFilter(rows, size) {
  const long = 2 ** Math.ceil(Math.log2(2 * size - 1));
  const transform = fourier(long);
  const response = [impulseResponse(), new Float64Array(long)];
  transform(...response);
  const [re, im] = [new Float64Array(long), new Float64Array(long)];
  return (...frames) => {
    [re, im].forEach((part, each) => part.fill(0).set(frames[each]));
    transform(re, im);
    for (let k = 0; k < long; k++) {
      const real = re[k] * response[0][k] - im[k] * response[1][k];
      im[k] = re[k] * response[1][k] + im[k] * response[0][k];
      re[k] = real;
    }
    transform(im, re); // with the parts exchanged, this is the inverse
    [re, im].forEach((part, each) => {
      for (let index = 0; index < size; index++) frames[each][index] = (part[index] + part[index + size]) / long;
    });
  };

  function impulseResponse() {
    const cosines = Float64Array.from({ length: size }, (_, index) => Math.cos((2 * Math.PI * index) / size) / size);
    const values = new Float64Array(long);
    rows.forEach((row, k) => {
      if (!row) return;
      const share = k === 0 || k === size / 2 ? row : 2 * row;
      for (let index = 0; index < size; index++) values[index] += share * cosines[(k * index) % size];
    });
    return values;
  }
}

/* The Fourier transform of a size that is a power of two, in place: a function of real and imaginary parts. */
function fourier(size) {
  const [cosines, sines] = [Math.cos, Math.sin].map((f) =>
    Float64Array.from({ length: size / 2 }, (_, index) => f((-2 * Math.PI * index) / size)),
  );
  const reversed = new Uint32Array(size);
  for (let index = 1; index < size; index++) {
    reversed[index] = (reversed[index >> 1] >> 1) | (index & 1 ? size >> 1 : 0);
  }
  return (re, im) => {
    for (let index = 0; index < size; index++) {
      const other = reversed[index];
      if (other <= index) continue;
      [re[index], re[other]] = [re[other], re[index]];
      [im[index], im[other]] = [im[other], im[index]];
    }
    for (let half = 1; half < size; half *= 2) {
      const step = size / (2 * half);
      for (let first = 0; first < size; first += 2 * half) {
        for (let k = 0; k < half; k++) {
          const even = first + k;
          const odd = even + half;
          const cosine = cosines[k * step];
          const sine = sines[k * step];
          const real = re[odd] * cosine - im[odd] * sine;
          const imaginary = re[odd] * sine + im[odd] * cosine;
          re[odd] = re[even] - real;
          im[odd] = im[even] - imaginary;
          re[even] += real;
          im[even] += imaginary;
        }
      }
    }
  };
}

/* A wav file of 16 bits. */
function waveFile(sound, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * sound.length));
  const texts = { 0: "RIFF", 8: "WAVE", 12: "fmt ", 36: "data" };
  for (const [place, text] of Object.entries(texts)) {
    [...text].forEach((letter, index) => view.setUint8(+place + index, letter.charCodeAt(0)));
  }
  const numbers = { 4: 36 + 2 * sound.length, 16: 16, 24: rate, 28: 2 * rate, 40: 2 * sound.length };
  for (const [place, number] of Object.entries(numbers)) view.setUint32(+place, number, true);
  for (const [place, number] of Object.entries({ 20: 1, 22: 1, 32: 2, 34: 16 })) view.setUint16(+place, number, true);
  sound.forEach((value, index) => {
    view.setInt16(44 + 2 * index, Math.round(Math.min(Math.max(value * 32768, -32768), 32767)), true);
  });
  return view.buffer;
}
