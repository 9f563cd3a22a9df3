// The page: a file goes to /v1/timeline, and what comes back is shown as it comes.

import {HeatMap} from "/map.js";
import {asWav, record} from "/sound.js";

const $ = id => document.getElementById(id);
const map = new HeatMap();
let models = [], chosen = null, latest = null, running = null, recording = null,
  opening = false;

const LOST = "The connection was lost: try again.";
const BY_BROWSER = "decoded by the browser: the server does not know its format, nor whether it is whole";

const element = (name, text, more = {}) =>
  Object.assign(document.createElement(name), {textContent: text, ...more});
const headers = () => $("token").value ? {Authorization: `Bearer ${$("token").value}`} : {};

function say(text, error = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", error);
}

// Ask the server; where it does not answer, browsers say each their own.
async function ask(path, options) {
  try { return await fetch(path, options); }
  catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer: try again.");
  }
}

async function reason(response) {
  try { return (await response.json()).error ?? response.statusText; }
  catch { return response.statusText || `status ${response.status}`; }
}

// Learn the models; return whether there are any that answer.
async function begin() {
  if (/[^\x20-\x7e]/.test($("token").value)) { say("This token is wrong.", true); return false; }
  const response = await ask("/v1/models", {headers: headers()});
  $("access").hidden = response.status !== 401 && !$("token").value;
  if (!response.ok) {
    const token = $("token").value ? "This token is wrong." : "A token is needed.";
    say(response.status === 401 ? token : await reason(response), true);
    return false;
  }
  say("");
  models = (await response.json()).models;
  const before = $("model").value;
  $("model").replaceChildren(...models.map(({name}) => element("option", name, {selected: name === before})));
  $("choice").hidden = models.length < 2;
  about();
  return true;
}

function about() {
  const model = models[$("model").selectedIndex] ?? models[0];
  const names = {micro_f1: "micro F1", macro_f1: "macro F1", lrap: "LRAP"};
  const figures = Object.entries(model.validation)
    .map(([key, value]) => `${names[key]} ${value.toFixed(3)}`).join(", ");
  $("about").textContent = `Model ${model.name}, version ${model.digest}: `
    + `${model.codes.length} instruments, `
    + (model.members > 1 ? `${model.members} members. ` : `${model.parameters.toLocaleString("en")} parameters. `)
    + (figures ? `On ${model.validated_on}, at its thresholds: ${figures}. ` : "")
    + (model.adapted_to ? `It is adapted to ${model.adapted_to}. ` : "")
    + "On other music it may be wrong more often.";
}

async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  const lost = error => {
    if (error.name === "AbortError") throw error;
    throw new Error(LOST);
  };
  for (let part; !(part = await reader.read().catch(lost)).done;) {
    const blocks = (held + part.value).split("\n\n");
    held = blocks.pop();
    for (const block of blocks) {
      const [kind, data] = block.split("\n");
      yield [kind.slice("event: ".length), JSON.parse(data.slice("data: ".length))];
    }
  }
}

async function send(content, name, signal) {
  const query = new URLSearchParams({name});
  if (models.length > 1) query.set("model", $("model").value);
  return ask(`/v1/timeline?${query}`, {
    method: "POST", body: content, signal,
    headers: {...headers(), Accept: "text/event-stream", "Content-Type": "application/octet-stream"},
  });
}

async function predict(file) {
  chosen = file;
  running?.abort();
  const {signal} = running = new AbortController();
  try {
    latest = null;
    $("result").hidden = true;
    $("progress").hidden = false;
    $("progress").removeAttribute("value");
    if (!file.size) throw new Error(`${file.name}: empty file`);
    say(`Sending ${file.name} …`);
    URL.revokeObjectURL($("player").src);
    $("player").src = URL.createObjectURL(file);
    $("player").currentTime = 0;  // else it starts where one that it could not play was moved to
    await show(file, signal);
  } catch (error) {
    if (signal.aborted) return;
    $("result").hidden = true;
    say(error.message, true);
  }
  if (running.signal === signal) $("progress").hidden = true;
}

async function show(file, signal, decoded = null) {
  const response = await send(decoded?.wav ?? file, file.name, signal);
  if (response.status === 401) { await begin(); return; }
  if (!response.ok) {
    const why = await reason(response);
    throw new Error(decoded ? `${decoded.refusal}; the browser has decoded it, but ${why}` : why);
  }
  const timeline = {codes: [], starts: [], ends: [], windows: []};
  for await (const [kind, data] of events(response)) {
    if (kind === "start") {
      map.begin(data.model);
      $("whole").hidden = true;
      timeline.codes = data.model.codes;
      $("name").textContent = data.path;
      say("Listening …");
    } else if (kind === "windows") {
      for (const key in data) timeline[key].push(...data[key]);
      $("result").hidden = false;
      map.add(data);
      // The browser knows no length of what it cannot play.
      if (Number.isFinite($("player").duration)) $("progress").value = Math.min(data.ends.at(-1) / map.length, 1);
    } else if (kind === "error") {
      // What the server does not know, the browser may decode; of damage it says nothing.
      if (data.reason === "unknown_format" && !decoded) {
        const refusal = data.error;
        try { decoded = {...await asWav(file, map.model), refusal}; } catch { throw new Error(refusal); }
        return show(file, signal, decoded);
      }
      throw new Error(data.error);
    } else {
      const note = [data.note, decoded?.note, decoded && BY_BROWSER].filter(Boolean).join("; ") || null;
      finish({...data, note, path: file.name, timeline}, map.model);
      return;
    }
  }
  throw new Error(LOST);
}

// Say what is unusual of the latest file; whether it can be played may be known later than its scores.
function note() {
  if (!latest) return;
  const nothing = latest.instruments.length ? null : "no instrument reaches its threshold";
  const mute = $("player").error ? "this browser cannot play the file" : null;
  $("note").textContent = [latest.note, nothing, mute].filter(Boolean).join("; ");
}

function finish(prediction, model) {
  latest = prediction;
  const codes = Object.keys(prediction.scores).sort((a, b) => prediction.scores[b] - prediction.scores[a]);
  const plays = codes.filter(code => prediction.instruments.includes(code));
  const names = plays.map(code => model.instruments[code]);
  $("plays").replaceChildren(...names.map(name => element("li", name)));
  note();
  $("scores").replaceChildren(...codes.map(code => {
    const row = element("tr", "", {className: plays.includes(code) ? "plays" : ""});
    const threshold = model.thresholds[code];
    row.append(
      element("th", model.instruments[code], {scope: "row"}),
      element("td", prediction.scores[code].toFixed(3)),
      element("td", threshold > 1 ? "never" : threshold.toFixed(3)),
      element("td", plays.includes(code) ? "yes" : ""),
    );
    return row;
  }));
  $("whole").hidden = false;
  say(names.length ? `Done: ${names.join(", ")}.` : "Done: no instrument.");
}

export function csv({timeline: {codes, starts, ends, windows}}) {
  const rows = windows.map((row, i) => [starts[i].toFixed(3), ends[i].toFixed(3), ...row]);
  const quoted = codes.map(code => /[",\r\n]/.test(code) ? `"${code.replaceAll('"', '""')}"` : code);
  return [["start_s", "end_s", ...quoted], ...rows].map(row => row.join(",") + "\n").join("");
}

const asJson = (prediction, {name, digest}) => ({model: {name, digest}, predictions: [prediction]});

function save(content, kind, ending) {
  const url = URL.createObjectURL(new Blob([content], {type: kind}));
  element("a", "", {href: url, download: latest.path.replace(/\.[^.]*$/, "") + ending}).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

function drop({files, items}) {
  const [file, ...more] = files;
  if (!file) return;
  $("file").value = "";  // else it names the file before
  if (more.length) say(`${files.length} files: drop one at a time.`, true);
  else if (items[0]?.webkitGetAsEntry()?.isDirectory) say(`${file.name} is a folder: drop a file.`, true);
  else predict(file);
}

$("file").addEventListener("click", () => { $("file").value = ""; });  // else the same file is no change
$("file").addEventListener("change", () => $("file").files[0] && predict($("file").files[0]));
$("model").addEventListener("change", () => { about(); if (chosen) predict(chosen); });
$("form").addEventListener("submit", async event => {
  event.preventDefault();
  try { if (await begin() && chosen) predict(chosen); } catch (error) { say(error.message, true); }
});
$("player").addEventListener("error", note);
$("csv").addEventListener("click", () => latest && save(csv(latest), "text/csv", ".csv"));
$("json").addEventListener("click", () =>
  latest && save(JSON.stringify(asJson(latest, map.model), null, 2), "application/json", ".json"));
$("record").hidden = !navigator.mediaDevices;  // without TLS, browsers have it on their own machine only
$("record").addEventListener("click", async () => {
  try {
    if (recording) { recording.stop(); return; }
    if (opening) return;  // a second click would open the microphone again
    opening = true;  // disabled, the button would lose the focus
    try { recording = await record(); } finally { opening = false; }
    $("record").textContent = "Stop";
    say("Recording …");
    const file = await recording.done;
    recording = null;
    $("record").textContent = "Record";
    $("file").value = "";
    predict(file);
  } catch (error) { say(`The microphone cannot be used: ${error.message}`, true); }
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  addEventListener(kind, event => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") drop(event.dataTransfer);
  });
}
begin().catch(error => say(error.message, true));
