// The heat map: a row per instrument, a column per window; it follows the player and moves it.

const $ = id => document.getElementById(id);

export const clock = seconds =>
  `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

export class HeatMap {
  constructor() {
    this.plot = $("plot");
    this.player = $("player");
    this.begin({codes: []});
    this.plot.addEventListener("click", event => {
      const box = this.plot.getBoundingClientRect();
      this.seek((event.clientX - box.left) / box.width * this.length);
    });
    this.plot.addEventListener("keydown", event => {
      const steps = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10};
      if (event.key === "Home") this.seek(0);
      else if (event.key === "End") this.seek(this.length);
      else if (event.key in steps) this.seek(this.player.currentTime + steps[event.key]);
      else return;
      event.preventDefault();
    });
    for (const kind of ["timeupdate", "seeked", "loadedmetadata"]) {
      this.player.addEventListener(kind, () => this.follow());
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  begin(model) {
    this.model = model;
    this.codes = model.codes;
    this.starts = []; this.ends = []; this.windows = [];
    $("rows").replaceChildren(...this.codes.map(code =>
      Object.assign(document.createElement("li"), {textContent: model.instruments[code]})));
    this.draw();
  }

  add({starts, ends, windows}) {
    this.starts.push(...starts); this.ends.push(...ends); this.windows.push(...windows);
    this.draw();
  }

  get length() {
    const known = this.player.duration;
    return Math.max(Number.isFinite(known) ? known : 0, this.ends.at(-1) ?? 0);
  }

  seek(seconds) {
    this.player.currentTime = Math.max(0, Math.min(seconds, this.length - 0.01));
    this.follow();
  }

  draw() {
    const canvas = $("canvas"), columns = 1000;
    canvas.width = columns; canvas.height = Math.max(this.codes.length, 1);
    const context = canvas.getContext("2d"), last = this.windows.length - 1;
    context.fillStyle = getComputedStyle(document.body).getPropertyValue("--first");
    this.windows.forEach((scores, number) => {
      const from = number ? this.edge(number - 1) : this.starts[0];
      const to = number < last ? this.edge(number) : this.ends[number];
      const left = Math.floor(from / this.length * columns);
      const right = Math.ceil(to / this.length * columns);
      scores.forEach((score, row) => {
        context.clearRect(left, row, right - left, 1);
        context.globalAlpha = score;
        context.fillRect(left, row, right - left, 1);
      });
    });
    $("length").textContent = clock(this.length);
    this.follow();
  }

  // Where a window ends for the next one: they overlap, and it is halfway between their centres.
  edge(number) {
    const centre = i => (this.starts[i] + this.ends[i]) / 2;
    return (centre(number) + centre(number + 1)) / 2;
  }

  follow() {
    const at = this.player.currentTime, share = this.length ? at / this.length : 0;
    $("now").style.left = `calc(${100 * share}% - 1px)`;
    // Beyond the last edge there is none, and -1 is the last window.
    const scores = this.windows.at(this.windows.findIndex((_, i) => at < this.edge(i))) ?? [];
    const surest = this.model.relative ? Math.max(...scores) || 1 : 1;
    const playing = this.codes.filter((code, i) => scores[i] / surest >= this.model.thresholds[code])
      .map(code => this.model.instruments[code]);
    const text = `${clock(at)}: ${playing.join(", ") || "none above its threshold"}`;
    $("here").textContent = scores.length ? text : "";
    this.plot.setAttribute("aria-valuemax", this.length.toFixed(1));
    this.plot.setAttribute("aria-valuenow", at.toFixed(1));
    this.plot.setAttribute("aria-valuetext", text);
  }
}
