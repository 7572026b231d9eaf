// What left the sites, and how much privacy is spent.
import { bytes, command, day, empty, h, many, number, protection, say, short, spell, time } from "./dom.js";
import { Table } from "./table.js";

const EVERY = 4; // seconds between two looks while nothing happens
const SAYS = {
  secagg: "Masked updates left the sites. The coordinator could open only the sum of those who counted, never one of them.",
  sealed: "Updates left the sites encrypted to the coordinator, whose process could read each of them.",
  he: "Ciphertexts left the sites that the coordinator cannot open.",
};

export async function open(main, get) {
  const page = new Left(get);
  main.append(page.element);
  return page;
}

class Left {
  constructor(get) {
    this.get = get;
    this.run = new URLSearchParams(location.search).get("run") || "";
    this.select = h("select", { id: "run", onchange: () => { this.run = this.select.value; history.replaceState(null, "", `?run=${this.run}`); this.seen = ""; this.show(this.picture); } });
    this.controls = h("div", { class: "controls" }, h("label", { for: "run" }, "Run"), this.select);
    this.about = h("section", { class: "card" });
    this.releases = new Table("Releases: the sums that were opened", [
      { title: "Round", number: true, key: (r) => r.round, cell: (r) => r.round },
      { title: "What", key: (r) => r.what, cell: (r) => (r.what === "evaluate" ? "closing evaluation, metrics only" : "updates and metrics") },
      { title: "When", key: (r) => r.wall, cell: (r) => time(r.wall, day(r.wall)) },
      { title: "Sites", number: true, key: (r) => r.sites, cell: (r) => r.sites },
      { title: "Bytes", number: true, key: (r) => r.bytes, cell: (r) => bytes(r.bytes) },
      { title: "Attempt", number: true, key: (r) => r.attempt, cell: (r) => r.attempt },
      { title: "Model", cell: (r) => short(r.model_sha256) },
      { title: "Receipts' root", cell: (r) => short(r.root) },
    ], { size: 20, none: "nothing was released yet" });
    this.released = h("section", { class: "card" }, this.releases.element);
    this.head = h("p", { class: "digest" });
    this.count = h("p", { class: "quiet" });
    this.older = h("button", { type: "button", onclick: () => this.more() }, "Older lines");
    this.audit = audit();
    this.log = h("section", { class: "card" }, h("h2", null, "Audit log"),
      h("p", null, "Each line holds the hash of the line before. Who has written down the head can tell later whether anything was changed or taken out: ", h("code", null, "unisono audit verify"), "."),
      this.count, this.head, this.audit.element, h("p", null, this.older));
    this.none = h("div");
    this.element = h("div", { class: "stack" }, this.none, this.controls, this.about, this.released, this.log);
    this.lines = [];
    this.seen = "";
    this.looked = 0;
  }

  async show(picture) {
    this.picture = picture;
    const sign = `${picture.clients_enrolled} ${picture.runs.map((run) => `${run.id} ${run.published} ${run.phase} ${JSON.stringify(run.counts)}`)}`;
    const now = performance.now() / 1000;
    if (sign === this.seen && now - this.looked < EVERY) return;
    this.seen = sign;
    this.looked = now;
    const [{ runs }, page] = await Promise.all([this.get("/api/v1/runs"), this.get("/api/v1/audit?limit=100")]);
    for (const part of [this.controls, this.about, this.released]) part.hidden = !runs.length;
    this.none.replaceChildren(...(runs.length ? [] : [empty("Nothing left any site", "What leaves is listed here, round by round, once a run goes on:", command("unisono run start plan.toml --watch --dir DIR"))]));
    this.tell(page);
    if (!runs.length) return;
    if (!runs.some((run) => run.id === this.run)) this.run = runs[0].id;
    this.offer(runs);
    const ways = [`${this.run}?last=1`, `${this.run}/rounds`, `${this.run}/releases`];
    const [document, brief, signed] = await Promise.all(ways.map((way) => this.get(`/api/v1/runs/${way}`)));
    this.draw(document, together(brief.rounds, signed.releases));
  }

  offer(runs) {
    const sign = runs.map((run) => run.id + run.state).join();
    if (this.offered === sign) return;
    this.offered = sign;
    this.select.replaceChildren(...runs.map((run) => h("option", { value: run.id }, `${run.id} · ${run.task} · ${run.state}`)));
    this.select.value = this.run;
  }

  draw(run, released) {
    const total = released.reduce((sum, one) => sum + one.bytes, 0);
    const fact = (name, words) => h("div", null, h("dt", null, name), h("dd", null, words));
    this.about.replaceChildren(h("div", { class: "title" }, h("h2", null, `${run.id} `, h("span", { class: "task" }, run.task)), protection(run.protection)),
      h("p", null, SAYS[run.protection] || "", " No training example and no code travels, whatever the protection. For each release a site gets a signed receipt: ", h("code", null, "unisono client receipts verify"), "."),
      h("dl", { class: "facts" }, fact("releases", many(released.length, "sum")), fact("bytes from the sites", bytes(total)), ...privacy(run.privacy, fact)),
      ...(Object.keys(run.privacy || {}).length ? [] : [h("p", { class: "note" }, "This run has no differential privacy: what its sums and models tell about single examples is not bounded by any epsilon.")]));
    this.releases.set([...released].reverse());
  }

  tell(page) {
    const known = this.lines.length ? this.lines[0].seq : 0;
    const fresh = page.lines.filter((line) => line.seq > known);
    const gap = fresh.length === page.lines.length && known > 0;
    this.lines = gap ? page.lines : [...fresh, ...this.lines];
    say(this.count, `${many(page.count ?? this.lines[0]?.seq ?? 0, "line")}; head:`);
    this.head.replaceChildren(...(page.head.match(/.{1,4}/g) || []).map((group) => h("span", null, group)));
    this.head.setAttribute("aria-label", `head of the audit log ${page.head}`);
    this.audit.set(this.lines);
    this.older.hidden = !this.lines.length || this.lines[this.lines.length - 1].seq <= 1;
  }

  async more() {
    const last = this.lines[this.lines.length - 1].seq;
    const page = await this.get(`/api/v1/audit?limit=100&before=${last}`);
    this.lines = [...this.lines, ...page.lines];
    this.audit.set(this.lines);
    this.audit.page = Number.MAX_SAFE_INTEGER;
    this.audit.draw();
    this.older.hidden = page.lines.length === 0 || page.lines[page.lines.length - 1].seq <= 1;
  }
}

// Rounds of an earlier version have no receipts; they left the sites all the same.
function together(rounds, releases) {
  const known = new Set(releases.map((one) => one.round));
  const older = rounds.filter((round) => !known.has(round.round)).map((round) => ({
    round: round.round, what: "train", wall: round.published, sites: round.survivors, bytes: round.bytes_in, attempt: round.attempts, model_sha256: round.model_sha256, root: "",
  }));
  return [...older, ...releases].sort((a, b) => a.round - b.round);
}

function privacy(spent, fact) {
  return Object.entries(spent || {}).map(([name, value]) => fact(spell(name), typeof value === "object" ? JSON.stringify(value) : value));
}

function audit() {
  return new Table("Lines, the newest first", [
    { title: "Line", number: true, cell: (r) => r.seq },
    { title: "When", cell: (r) => time(r.wall, day(r.wall)) },
    { title: "What", cell: (r) => spell(r.what) },
    { title: "Run", cell: (r) => r.run },
    { title: "Who", cell: (r) => r.client },
    { title: "Detail", cell: detail },
  ], { size: 15, none: "the log is empty" });
}

function detail(line) {
  const { round, attempt, attempts, ...rest } = line.detail || {};
  const parts = Object.entries(rest).map(([name, value]) => part(name, value)).filter((words) => words);
  const where = [round ? `round ${round}` : "", (attempt || attempts) > 1 ? `attempt ${attempt || attempts}` : ""].filter((words) => words);
  return h("span", { class: "detail", title: JSON.stringify(line.detail) }, [...where, ...parts].join(" · "));
}

// What somebody wants at a glance; the title has all of it.
function part(name, value) {
  if (name === "bytes") return bytes(value);
  if (name === "bounds" || name === "state" && Array.isArray(value)) return "";
  if (name === "metrics") return pairs(value).map(([metric, found]) => `${spell(metric)} ${number(found)}`).join(", ");
  if (Array.isArray(value)) return value.length ? `${spell(name)} ${value.length}` : "";
  if (value === null || value === "") return "";
  if (typeof value === "number") return `${spell(name)} ${number(value)}`;
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return `${spell(name)} ${/^[0-9a-f]{64}$/.test(text) ? text.slice(0, 12) : text.length > 90 ? `${text.slice(0, 90)}…` : text}`;
}

function pairs(value) {
  return Array.isArray(value) ? value : Object.entries(value || {});
}
