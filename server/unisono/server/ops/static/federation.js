// Who is in the federation, and are they well.
import { ago, bytes, command, empty, h, many, minute, say, short, state, time } from "./dom.js";
import { Table } from "./table.js";

const EVERY = 4; // seconds between two looks while nobody comes or goes

export async function open(main, get) {
  const page = new Federation(get);
  main.append(page.element);
  return page;
}

class Federation {
  constructor(get) {
    this.get = get;
    this.seen = "";
    this.looked = 0;
    this.counts = h("dl", { class: "facts" });
    this.search = h("input", { id: "search", type: "search", placeholder: "name, state, task or version", autocomplete: "off", oninput: () => this.find() });
    this.table = clients();
    this.tokens = tokens();
    this.roster = h("section", { class: "card" });
    this.none = h("div");
    this.known = h("section", { class: "card" }, h("div", { class: "controls" }, h("label", { for: "search" }, "Find"), this.search), this.table.element);
    this.waiting = h("section", { class: "card" }, this.tokens.element);
    this.element = h("div", { class: "stack" }, this.counts, this.none, this.known, this.roster, this.waiting);
  }

  find() {
    const words = this.search.value.trim().toLowerCase();
    const text = (row) => `${row.name} ${row.state} ${row.tasks.join(" ")} ${row.software}`.toLowerCase();
    this.table.page = 0;
    this.table.set(this.rows || [], words ? (row) => text(row).includes(words) : null);
  }

  async show(picture) {
    const sign = `${picture.clients_online} ${picture.clients_enrolled} ${picture.runs.map((run) => `${run.id} ${run.published}`)}`;
    const now = performance.now() / 1000;
    if (sign === this.seen && now - this.looked < EVERY) return;
    this.seen = sign;
    this.looked = now;
    const [found, done, open] = await Promise.all(["clients", "participation", "tokens"].map((name) => this.get(`/api/v1/${name}`)));
    const nothing = { updates: 0, bytes: 0, dropouts: 0 };
    this.rows = found.clients.map((client) => ({ ...nothing, ...done.clients[client.name], ...client }));
    this.draw(open.tokens);
    await this.compare();
  }

  draw(open) {
    const count = (word) => this.rows.filter((row) => row.state === word).length;
    const fact = (name, words) => h("div", null, h("dt", null, name), h("dd", null, words));
    this.counts.replaceChildren(fact("online", count("online")), fact("offline", count("offline")), fact("revoked", count("revoked")), fact("tokens not used", open.length));
    this.known.hidden = !this.rows.length;
    this.none.replaceChildren(...(this.rows.length ? [] : [empty("No site has joined yet", "Make a token for each site, hand it over, and let the site join:",
      command("unisono token create hospital-a --dir DIR", "unisono join HOST:8443 --token hospital-a.token --dir site"))]));
    this.find();
    this.tokens.set(open);
  }

  async compare() {
    const found = await this.get("/api/v1/runs/latest/roster");
    const sign = JSON.stringify(found);
    if (sign === this.pinned) return;
    this.pinned = sign;
    const title = h("h2", null, "Roster digest");
    if (!found.digest) {
      this.roster.replaceChildren(title, h("p", null, "It exists once a run has frozen who takes part. Sites that read it to each other know that the coordinator invented nobody."));
      return;
    }
    const groups = found.digest.match(/.{1,4}/g).map((group) => h("span", null, group));
    this.roster.replaceChildren(title,
      h("p", null, `Of ${found.run}, with ${many(found.clients.length, "site")}. Read it out on the phone; every site sees the same one with `, h("code", null, "unisono client plans show"), "."),
      h("p", { class: "digest", "aria-label": `roster digest ${found.spoken}` }, groups));
  }
}

function clients() {
  return new Table("Clients", [
    { title: "Name", key: (r) => r.name, cell: (r) => r.name },
    { title: "State", key: (r) => r.state, cell: (r) => state(r.state) },
    { title: "Last seen", key: (r) => -(r.last_seen || 0), cell: (r) => (r.state === "online" ? "now" : time(r.last_seen, ago(r.last_seen))) },
    { title: "Certificate", number: true, key: (r) => r.not_after, cell: life },
    { title: "Updates", number: true, key: (r) => r.updates, cell: (r) => r.updates },
    { title: "Drop-outs", number: true, key: (r) => r.dropouts, cell: (r) => r.dropouts },
    { title: "Sent", number: true, key: (r) => r.bytes, cell: (r) => (r.bytes ? bytes(r.bytes) : "") },
    { title: "Tasks", key: (r) => r.tasks.join(), cell: (r) => r.tasks.join(", ") },
    { title: "Version", key: (r) => r.software, cell: (r) => r.software.replace("unisono/", "") },
    { title: "Signing key", cell: (r) => short(r.signing_spki_sha256) },
  ], { size: 50, sort: 0 });
}

function life(row) {
  if (!row.not_after || row.state === "revoked") return "";
  const days = Math.floor((row.not_after - Date.now() / 1000) / 86400);
  const words = days < 0 ? "ended" : days === 0 ? "ends today" : many(days, "day");
  return days < 7 ? h("span", { class: "bad" }, words) : words;
}

function tokens() {
  return new Table("Tokens that are not used up", [
    { title: "Name", key: (r) => r.name, cell: (r) => r.name },
    { title: "Uses left", number: true, cell: (r) => `${r.uses - r.used} of ${r.uses}` },
    { title: "Ends", key: (r) => r.not_after, cell: (r) => time(r.not_after, minute(r.not_after)) },
  ], { size: 20, none: "none; one is made with: unisono token create NAME --dir DIR" });
}
