// Is the model getting better: a chart a metric, the rounds, and another run beside it.
import { bytes, command, empty, h, many, number, protection, say, seconds, short, spell, state } from "./dom.js";
import { Chart, best, lowest } from "./chart.js";
import { Table } from "./table.js";

export async function open(main, get) {
  const page = new Progress(get);
  main.append(page.element);
  return page;
}

class Progress {
  constructor(get) {
    this.get = get;
    this.run = new URLSearchParams(location.search).get("run") || "";
    this.other = new URLSearchParams(location.search).get("with") || "";
    this.first = h("select", { id: "run", onchange: () => this.choose("run", this.first.value) });
    this.second = h("select", { id: "with", onchange: () => this.choose("other", this.second.value) });
    this.summary = h("div", { class: "title" });
    this.compared = h("div");
    this.charts = h("div", { class: "charts" });
    this.chart = new Map();
    this.controls = h("div", { class: "controls" }, h("label", { for: "run" }, "Run"), this.first,
      h("label", { for: "with" }, "compared with"), this.second);
    this.place = h("div", { class: "stack" });
    this.element = h("div", { class: "stack" }, this.controls, this.place);
    this.seen = null;
  }

  choose(which, value) {
    this[which] = value;
    const query = new URLSearchParams({ run: this.run, ...(this.other ? { with: this.other } : {}) });
    history.replaceState(null, "", `?${query}`);
    this.seen = null;
    this.show(this.picture);
  }

  async show(picture) {
    this.picture = picture;
    const mine = picture.runs.map((run) => `${run.id} ${run.published} ${run.stage} ${run.attempt}`).join();
    if (mine === this.seen) return;
    this.seen = mine;
    try {
      await this.look();
    } catch (error) {
      this.seen = null; // what could not be asked is asked again
      throw error;
    }
  }

  async look() {
    const runs = (await this.get("/api/v1/runs")).runs;
    if (!runs.length) {
      this.controls.hidden = true;
      this.place.replaceChildren(empty("No model yet", "Curves appear here as soon as a run has published its first round:",
        command("unisono run start plan.toml --watch --dir DIR")));
      return;
    }
    this.controls.hidden = false;
    if (!runs.some((run) => run.id === this.run)) this.run = runs[0].id;
    this.offer(runs);
    const shown = [this.run, ...(this.other && this.other !== this.run ? [this.other] : [])];
    const found = await Promise.all(shown.map(async (id) => ({
      ...runs.find((run) => run.id === id), asked: runs.find((run) => run.id === id).rounds, rounds: (await this.get(`/api/v1/runs/${id}/rounds`)).rounds,
    })));
    await this.draw(found[0], found[1]);
  }

  offer(runs) {
    const options = (select, chosen, extra) => {
      const words = runs.map((run) => `${run.id} · ${run.task} · ${run.state}`);
      const sign = extra + words.join();
      if (select.dataset.sign === sign) return;
      select.dataset.sign = sign;
      select.replaceChildren(...(extra ? [h("option", { value: "" }, extra)] : []),
        ...runs.map((run, index) => h("option", { value: run.id, selected: run.id === chosen }, words[index])));
      select.value = chosen;
    };
    options(this.first, this.run, "");
    options(this.second, this.other, "no other run");
  }

  async draw(run, other) {
    if (!this.table || this.drawn !== run.id) this.begin(run);
    this.summary.replaceChildren(h("h2", null, `${run.id} `, h("span", { class: "task" }, run.task)), state(run.state),
      protection(run.protection), h("p", { class: "rounds" }, `${run.round} of ${many(run.asked, "round")}${run.reason ? ` · ${run.reason}` : ""}`));
    const names = [...new Set(run.rounds.flatMap((round) => Object.keys(round.metrics)))].sort();
    if (this.columns !== names.join()) { this.columns = names.join(); this.tabulate(names); }
    this.table.set([...run.rounds].reverse());
    this.compared.replaceChildren(...(other ? [comparison(run, other, names)] : []));
    const none = run.round ? "its metrics come with the next round's updates" : "its first round is not published yet";
    say(this.hint, names.length ? "" : `Nothing to draw: ${none}.`);
    for (const name of names) {
      if (!this.chart.has(name)) {
        const chart = new Chart(name);
        this.chart.set(name, chart);
        this.charts.append(chart.element);
      }
    }
    for (const name of names) { // one a frame: a long run draws without a pause that anybody feels
      await new Promise((done) => setTimeout(done));
      await this.chart.get(name)?.show(run, other);
    }
  }

  begin(run) {
    this.drawn = run.id;
    this.columns = null;
    this.chart.clear();
    this.charts.replaceChildren();
    this.hint = h("p", { class: "quiet" });
    this.rounds = h("section", { class: "card" });
    this.place.replaceChildren(this.summary, this.hint, this.charts, this.compared, this.rounds);
    this.tabulate([]);
  }

  tabulate(names) {
    const metric = (name) => ({ title: spell(name), number: true, key: (r) => r.metrics[name] ?? null, cell: (r) => number(r.metrics[name]) });
    this.table = new Table("Rounds, the newest first", [
      { title: "Round", number: true, key: (r) => r.round, cell: (r) => r.round },
      ...names.map(metric),
      { title: "Time", number: true, key: (r) => r.seconds, cell: (r) => seconds(r.seconds) },
      { title: "Up", number: true, key: (r) => r.bytes_in, cell: (r) => bytes(r.bytes_in) },
      { title: "Down", number: true, key: (r) => r.bytes_out, cell: (r) => bytes(r.bytes_out) },
      { title: "Counted", number: true, key: (r) => r.survivors, cell: (r) => `${r.survivors} of ${r.cohort}` },
      { title: "Attempts", number: true, key: (r) => r.attempts, cell: (r) => r.attempts },
      { title: "Reasons", cell: reasons },
      { title: "Model", cell: (r) => short(r.model_sha256) },
    ], { size: 25, none: "no round is published yet" });
    this.rounds.replaceChildren(this.table.element);
  }
}

function reasons(round) {
  const missing = round.reasons.map(([client, why]) => `${client}: ${why}`);
  const failed = round.failures.map(([attempt, why]) => `attempt ${attempt}: ${why}`);
  const more = round.reasons_count > round.reasons.length ? [`and ${round.reasons_count - round.reasons.length} more`] : [];
  return [...failed, ...missing, ...more].join("; ");
}

function comparison(run, other, names) {
  const total = (of, what) => of.rounds.reduce((sum, round) => sum + (round[what] || 0), 0);
  const row = (words, cell) => h("tr", null, h("th", { scope: "row" }, words), ...[run, other].map((one) => h("td", { class: "number" }, cell(one))));
  const bests = names.map((name) => row(`${lowest(name) ? "lowest" : "highest"} ${spell(name)}`, (one) => {
    const found = best(one.rounds, name);
    return found ? `${number(found.value)} in round ${found.round}` : "";
  }));
  const table = h("table", null, h("caption", null, `${run.id} and ${other.id}`),
    h("thead", null, h("tr", null, h("td"), ...[run, other].map((one) => h("th", { scope: "col", class: "number" }, one.id)))),
    h("tbody", null, ...bests, row("rounds", (one) => one.rounds.length), row("time of all rounds", (one) => seconds(total(one, "seconds"))),
      row("sent by the sites", (one) => bytes(total(one, "bytes_in"))), row("protection", (one) => one.protection)));
  return h("section", { class: "card" }, h("div", { class: "frame", tabindex: "0", role: "region", "aria-label": "comparison" }, table));
}
