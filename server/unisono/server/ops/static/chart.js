// One metric over the rounds, by uPlot; the best round has a ring, a second run is dashed.
import { h, number, say, spell } from "./dom.js";

const DOWN = /loss|error|mse|mae|rmse|perplexity|nll/;
let library = null;

// uPlot is a plain script; it is fetched when the first chart is drawn.
function uplot() {
  library ||= new Promise((done, failed) => {
    document.head.append(h("link", { rel: "stylesheet", href: "/static/uplot.css" }),
      h("script", { src: "/static/uplot.js", onload: () => done(window.uPlot), onerror: failed }));
  });
  return library;
}

export function lowest(name) {
  return DOWN.test(name);
}

export function best(rounds, name) {
  let found = null;
  for (const round of rounds) {
    const value = round.metrics[name];
    if (typeof value !== "number") continue;
    if (!found || (lowest(name) ? value < found.value : value > found.value)) found = { round: round.round, value };
  }
  return found;
}

export class Chart {
  constructor(name) {
    this.name = name;
    this.words = h("figcaption");
    this.at = h("span", { class: "readout" });
    this.key = h("p", { class: "key", hidden: true });
    this.place = h("div", { class: "plot", role: "img" });
    this.element = h("figure", { class: "card chart" }, h("div", { class: "top" }, h("h3", null, spell(name)), this.at), this.words, this.key, this.place);
    this.plot = null;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { this.plot?.destroy(); this.plot = null; this.again?.(); });
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(this.place);
  }

  size() {
    return { width: Math.max(200, this.place.clientWidth), height: 210 };
  }

  async show(run, other) {
    this.again = () => this.show(run, other);
    const uPlot = await uplot();
    const all = [run, ...(other ? [other] : [])];
    const x = [...new Set(all.flatMap((one) => one.rounds.map((round) => round.round)))].sort((a, b) => a - b);
    const lines = all.map((one) => {
      const values = new Map(one.rounds.map((round) => [round.round, round.metrics[this.name]]));
      return x.map((round) => values.get(round) ?? null);
    });
    this.data = [x, ...lines];
    this.marks = all.map((one) => best(one.rounds, this.name));
    this.ids = all.map((one) => one.id);
    this.caption(run);
    this.key.hidden = !other;
    this.key.replaceChildren(...this.ids.map((id, index) => h("span", { class: index ? "second" : "first" }, id)));
    if (this.plot && this.drawn === this.ids.join()) { this.plot.setData(this.data); return; }
    this.plot?.destroy();
    this.drawn = this.ids.join();
    this.plot = new uPlot(this.options(uPlot), this.data, this.place);
  }

  caption(run) {
    const measured = run.rounds.filter((round) => typeof round.metrics[this.name] === "number");
    const last = measured[measured.length - 1], top = this.marks[0];
    const words = top ? `${number(last.metrics[this.name])} after round ${last.round}; ${lowest(this.name) ? "lowest" : "highest"} ${number(top.value)} in round ${top.round}` : "not measured";
    say(this.words, words);
    this.place.setAttribute("aria-label", `${spell(this.name)} of ${this.ids.join(" and ")} by round: ${words}. The table below has every value.`);
  }

  options(uPlot) {
    const style = getComputedStyle(document.documentElement), color = (name) => style.getPropertyValue(name).trim();
    const axis = { stroke: color("--quiet"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 }, font: "12px system-ui" };
    const strokes = [color("--accent"), color("--second")];
    const line = (id, index) => ({ label: id, stroke: strokes[index], width: 2, dash: index ? [6, 4] : undefined, spanGaps: true, points: { show: this.data[0].length < 40, size: 5 } });
    return {
      ...this.size(),
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false } },
      scales: { x: { time: false } },
      axes: [{ ...axis, size: 30, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500] }, { ...axis, size: 58, values: (plot, ticks) => ticks.map((tick) => tick.toPrecision(3).replace(/\.?0+$/, "")) }],
      series: [{}, ...this.ids.map(line)],
      hooks: { draw: [(plot) => this.ring(plot, strokes)], setCursor: [(plot) => this.read(plot)] },
    };
  }

  ring(plot, strokes) {
    const ratio = devicePixelRatio, { ctx } = plot;
    this.marks.forEach((found, index) => {
      if (!found) return;
      ctx.save();
      ctx.strokeStyle = strokes[index];
      ctx.lineWidth = 2 * ratio;
      ctx.beginPath();
      ctx.arc(plot.valToPos(found.round, "x", true), plot.valToPos(found.value, "y", true), 7 * ratio, 0, 2 * Math.PI);
      ctx.stroke();
      ctx.restore();
    });
  }

  read(plot) {
    const index = plot.cursor.idx;
    if (index === null || index === undefined) { say(this.at, ""); return; }
    const values = this.ids.map((id, at) => `${id} ${number(this.data[at + 1][index]) || "not measured"}`);
    say(this.at, `round ${this.data[0][index]}: ${values.join(", ")}`);
  }
}
