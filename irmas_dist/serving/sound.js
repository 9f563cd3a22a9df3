// Sound that the browser can decode and the server cannot, such as M4A and recordings: as WAV.

const CANCELLED = 1e-3;  // as the server's own mixdown has it

// Decode a file for a model: a WAV of 16 bits and one channel, and what is unusual of the file.
export async function asWav(file, {sample_rate, downmix}) {
  // All browsers have these rates; the server resamples to others.
  const rate = Math.max(8_000, Math.min(sample_rate, 96_000));
  const sound = await new OfflineAudioContext(1, 1, rate).decodeAudioData(await file.arrayBuffer());
  const {mono, note} = mixDown(sound, downmix), bytes = new DataView(new ArrayBuffer(44 + 2 * mono.length));
  const text = (at, word) => [...word].forEach((c, i) => bytes.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF"); bytes.setUint32(4, 36 + 2 * mono.length, true); text(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true); bytes.setUint16(20, 1, true); bytes.setUint16(22, 1, true);
  bytes.setUint32(24, rate, true); bytes.setUint32(28, 2 * rate, true);
  bytes.setUint16(32, 2, true); bytes.setUint16(34, 16, true);
  text(36, "data"); bytes.setUint32(40, 2 * mono.length, true);
  mono.forEach((sample, i) => {
    bytes.setInt16(44 + 2 * i, Math.round(Math.max(-1, Math.min(1, sample)) * 32767), true);
  });
  return {wav: new Blob([bytes], {type: "audio/wav"}), note};
}

// As `Mixdown` does on the server: the mean of the channels, the first, or the louder of what cancels.
function mixDown(sound, downmix) {
  const channels = Array.from({length: sound.numberOfChannels}, (_, i) => sound.getChannelData(i));
  if (downmix === "first" || channels.length === 1) return {mono: channels[0], note: null};
  const mono = new Float32Array(sound.length);
  for (const samples of channels) samples.forEach((sample, i) => { mono[i] += sample; });
  const power = samples => samples.reduce((sum, sample) => sum + sample * sample, 0);
  const powers = channels.map(power);
  if (power(mono) < CANCELLED * powers.reduce((sum, each) => sum + each)) {
    const louder = powers.indexOf(Math.max(...powers));
    const note = `its channels cancel each other: the louder, channel ${louder + 1}, is used`;
    return {mono: channels[louder], note};
  }
  return {mono: mono.map(sample => sample / channels.length), note: null};
}

export async function record() {
  const stream = await navigator.mediaDevices.getUserMedia({audio: true});
  const close = () => stream.getTracks().forEach(track => track.stop());
  try {
    const recorder = new MediaRecorder(stream), parts = [];
    recorder.addEventListener("dataavailable", event => parts.push(event.data));
    const done = new Promise(resolve => recorder.addEventListener("stop", () => {
      close();
      resolve(new File(parts, "recording", {type: recorder.mimeType}));
    }));
    recorder.start();
    return {stop: () => recorder.stop(), done};
  } catch (error) { close(); throw error; }
}
