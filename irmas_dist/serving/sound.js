// Sound that the browser can decode and the server cannot, such as M4A and recordings: as WAV.

const RATE = 44100;

export async function asWav(file) {
  const context = new OfflineAudioContext(1, 1, RATE);
  const sound = await context.decodeAudioData(await file.arrayBuffer());
  const channels = Math.min(sound.numberOfChannels, 2), frames = sound.length;
  const bytes = new DataView(new ArrayBuffer(44 + 2 * channels * frames));
  const text = (at, word) => [...word].forEach((c, i) => bytes.setUint8(at + i, c.charCodeAt(0)));
  text(0, "RIFF"); bytes.setUint32(4, 36 + 2 * channels * frames, true); text(8, "WAVEfmt ");
  bytes.setUint32(16, 16, true); bytes.setUint16(20, 1, true); bytes.setUint16(22, channels, true);
  bytes.setUint32(24, RATE, true); bytes.setUint32(28, 2 * channels * RATE, true);
  bytes.setUint16(32, 2 * channels, true); bytes.setUint16(34, 16, true);
  text(36, "data"); bytes.setUint32(40, 2 * channels * frames, true);
  for (let channel = 0; channel < channels; channel++) {
    const samples = sound.getChannelData(channel);
    for (let i = 0; i < frames; i++) {
      const value = Math.max(-1, Math.min(1, samples[i]));
      bytes.setInt16(44 + 2 * (channels * i + channel), Math.round(value * 32767), true);
    }
  }
  return new Blob([bytes], {type: "audio/wav"});
}

export async function record() {
  const stream = await navigator.mediaDevices.getUserMedia({audio: true});
  const recorder = new MediaRecorder(stream), parts = [];
  recorder.addEventListener("dataavailable", event => parts.push(event.data));
  const done = new Promise(resolve => recorder.addEventListener("stop", () => {
    stream.getTracks().forEach(track => track.stop());
    resolve(new File(parts, "recording", {type: recorder.mimeType}));
  }));
  recorder.start();
  return {stop: () => recorder.stop(), done};
}
