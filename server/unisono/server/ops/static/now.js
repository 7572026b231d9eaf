// What is happening, and why does it wait: one card a run.
import { bytes, clock, command, empty, h, many, mark, minute, number, protection, say, seconds, spell, state, time } from "./dom.js";

const ROUND = {
  secagg: [["announced", "Invite"], ["advertising", "Keys"], ["sharing", "Shares"], ["uploading", "Train and upload"],
    ["agreeing", "Agree"], ["revealing", "Reveal"], ["opening", "Add up"]],
  sealed: [["announced", "Invite"], ["collecting", "Train and upload"], ["aggregating", "Add up"]],
};
const BEFORE = [["waiting", "Gather clients"], ["initialising", "First model"], ["rounds", "Rounds"]];
const WORDS = {
  working: "at work", uploaded: "uploaded", invited: "invited", looking: "somebody there looks at the plan",
  lost: "lost", failed: "failed", declined: "declined",
};
const TONE = { uploaded: "good", lost: "bad", failed: "bad", declined: "bad", looking: "warn" };

export async function open(main, get) {
  const cards = new Map(), place = h("div", { class: "stack" });
  const idle = h("div", { class: "stack" });
  main.append(place, idle);
  let ended = "";

  async function quiet(picture) {
    const runs = (await get("/api/v1/runs")).runs;
    const sign = JSON.stringify([picture.clients_enrolled, picture.clients_online, runs[0]]);
    if (sign === ended) return;
    idle.replaceChildren(...(await nothing(picture, runs, get)));
    ended = sign; // not before it is shown: a question on the way may fail, and is then asked again
  }

  return {
    async show(picture) {
      for (const [id, card] of cards) {
        if (!picture.runs.some((run) => run.id === id)) { card.element.remove(); cards.delete(id); }
      }
      for (const run of picture.runs) {
        if (!cards.has(run.id)) {
          cards.set(run.id, new Card(run, get));
          place.append(cards.get(run.id).element);
        }
        cards.get(run.id).show(run);
      }
      if (picture.runs.length) { idle.replaceChildren(); ended = ""; } else await quiet(picture);
    },
  };
}

async function nothing(picture, runs, get) {
  const found = [];
  if (!picture.clients_enrolled) {
    found.push(empty("No site has joined yet", "Make a token for each site, hand it over, and let the site join:",
      command("unisono token create hospital-a --dir DIR", "unisono join HOST:8443 --token hospital-a.token --dir site")));
  } else if (!runs.length) {
    const online = `${picture.clients_online} of ${many(picture.clients_enrolled, "client")} online`;
    found.push(empty("No run yet", `${online}. A run begins with a plan:`, command("unisono run start plan.toml --watch --dir DIR")));
  }
  if (runs.length) {
    found.push(h("p", { class: "sentence" }, "Nothing goes on. ", `${picture.clients_online} of ${many(picture.clients_enrolled, "client")} online.`));
    found.push(await last(runs[0], get));
  }
  return found;
}

async function last(run, get) {
  const rounds = (await get(`/api/v1/runs/${run.id}/rounds`)).rounds;
  const measured = rounds.filter((round) => Object.keys(round.metrics).length).pop();
  const results = measured ? Object.entries(measured.metrics).map(([name, value]) => fact(spell(name), number(value))) : [];
  return h("article", { class: "card", "aria-label": `last run ${run.id}` },
    h("div", { class: "title" }, h("h2", null, `${run.id} `, h("span", { class: "task" }, run.task)), state(run.state), protection(run.protection)),
    h("p", null, `${run.reason.charAt(0).toUpperCase()}${run.reason.slice(1)}. Ended `, time(run.ended, minute(run.ended)), "."),
    h("dl", { class: "facts" }, fact("rounds", `${run.round} of ${run.rounds}`),
      fact("took", seconds((run.ended || run.updated) - run.started)), ...results),
    h("p", { class: "links" }, h("a", { href: `/progress?run=${run.id}` }, "Curves and rounds"), h("a", { href: `/left-the-sites?run=${run.id}` }, "What left the sites")));
}

function fact(name, words) {
  return h("div", null, h("dt", null, name), h("dd", null, words));
}

class Card {
  constructor(run, get) {
    this.get = get;
    this.rows = new Map();
    this.said = 0;
    this.seen = "";
    this.rounds = h("p", { class: "rounds" });
    this.bar = h("progress", { "aria-label": `rounds of ${run.id}` });
    this.steps = h("ol", { class: "steps", "aria-label": "phases" });
    this.sentence = h("p", { class: "sentence", "aria-live": "polite" });
    this.list = h("ul", { class: "clients" });
    this.more = h("p", { class: "quiet" });
    this.events = h("ol", { class: "events" });
    const title = h("h2", { id: `title-${run.id}` }, `${run.id} `, h("span", { class: "task" }, run.task));
    this.element = h("article", { class: "card", "aria-labelledby": `title-${run.id}` },
      h("div", { class: "title" }, title, protection(run.protection), this.rounds), this.bar, this.steps, this.sentence,
      h("h3", null, "Clients"), this.list, this.more, h("h3", null, "Last events"), this.events,
      h("p", { class: "links" }, h("a", { href: `/progress?run=${run.id}` }, "Curves and rounds")));
  }

  show(run) {
    const goes = run.what === "evaluate" ? "closing evaluation" : `round ${run.round} of ${run.rounds}`;
    const attempt = run.attempt > 1 ? `, attempt ${run.attempt}` : "";
    const left = run.published ? (run.seconds / run.published) * (run.rounds - run.published) : 0;
    const about = left > 0 ? `, about ${seconds(Math.ceil(left))} left` : "";
    say(this.rounds, run.stage === "in_round" ? `${goes}${attempt} · ${seconds(Math.round(run.seconds))}${about}` : many(run.rounds, "round"));
    mark(this.bar, "max", run.rounds);
    mark(this.bar, "value", run.published);
    this.stepper(run);
    say(this.sentence, run.sentence);
    this.clients(run);
    const sign = `${run.stage} ${run.phase} ${run.round} ${run.attempt} ${JSON.stringify(run.counts)}`;
    if (sign !== this.seen) { this.seen = sign; this.tell(run).catch(() => { this.seen = ""; }); }
  }

  stepper(run) {
    const inside = run.stage === "in_round";
    let steps = inside ? ROUND[run.protection] || ROUND.secagg : BEFORE;
    const now = inside ? run.phase : run.stage;
    if (now === "closing") steps = [["closing", "Close the failed attempt"]];
    const at = steps.findIndex(([name]) => name === now);
    const names = steps.map(([, words]) => words).join();
    if (this.names !== names) {
      this.names = names;
      this.steps.replaceChildren(...steps.map(([, words]) => h("li", null, h("span", { class: "step" }, words))));
    }
    [...this.steps.children].forEach((item, index) => {
      mark(item, "class", index < at ? "done" : index === at ? "at" : "next");
      mark(item, "aria-current", index === at ? "step" : null);
    });
  }

  clients(run) {
    const shown = run.clients.slice(0, 60);
    const gone = new Set(this.rows.keys());
    shown.forEach((client, index) => {
      gone.delete(client.name);
      if (!this.rows.has(client.name)) this.rows.set(client.name, new Row(client.name));
      const row = this.rows.get(client.name);
      row.show(client, run);
      if (this.list.children[index] !== row.element) this.list.insertBefore(row.element, this.list.children[index] || null);
    });
    for (const name of gone) { this.rows.get(name).element.remove(); this.rows.delete(name); }
    const all = Object.values(run.counts).reduce((sum, count) => sum + count, 0);
    const rest = Object.entries(run.counts).map(([name, count]) => `${count} ${WORDS[name] || name}`).join(", ");
    say(this.more, all > shown.length ? `${shown.length} of ${all} shown, those who are waited for first. In all: ${rest}.` : "");
  }

  async tell(run) {
    const found = (await this.get(`/api/v1/runs/${run.id}/events?limit=10`)).events;
    this.events.replaceChildren(...found.reverse().map((event) => h("li", null,
      time(event.wall, clock(event.wall)), h("span", null, words(event)))));
  }
}

function words(event) {
  const { seq, wall, event: what, client, round, attempt, reason, bytes: size } = event;
  const parts = [client ? `${client} ` : "", spell(what)];
  if (round) parts.push(` · round ${round}`);
  if (attempt > 1) parts.push(`, attempt ${attempt}`);
  if (size) parts.push(` · ${bytes(size)}`);
  if (typeof reason === "string" && reason) parts.push(` · ${reason}`);
  return parts.join("");
}

class Row {
  constructor(name) {
    this.name = name;
    this.dot = h("span", { class: "dot", "aria-hidden": "true" });
    this.words = h("span", { class: "doing" });
    this.bar = h("progress", { "aria-label": `progress of ${name}`, max: "1" });
    this.detail = h("span", { class: "detail" });
    this.element = h("li", null, h("span", { class: "who" }, this.dot, name), this.words, this.bar, this.detail);
    this.before = null;
  }

  show(client, run) {
    const tone = TONE[client.state] || (client.state !== "working" ? "calm" : client.silent_seconds > 10 ? "warn" : "busy");
    mark(this.element, "class", tone);
    say(this.words, client.state === "working" && client.stage ? spell(client.stage) : WORDS[client.state] || client.state);
    const moves = client.state === "working" && client.total > 0;
    this.bar.hidden = !moves && client.state !== "uploaded";
    mark(this.bar, "value", client.state === "uploaded" ? 1 : moves ? client.done / client.total : null);
    say(this.detail, this.about(client, run));
  }

  about(client, run) {
    const notes = client.note ? [client.note] : [];
    if (client.state === "working" && client.silent_seconds > 10) {
      const left = Math.max(0, run.idle_seconds - client.silent_seconds);
      notes.unshift(`silent for ${seconds(Math.round(client.silent_seconds))}; dropped in ${seconds(Math.round(left))} unless it moves`);
    } else if (client.state === "working" && client.total > 0) {
      notes.unshift(this.rate(client));
    }
    return notes.join(" · ");
  }

  // Bytes for what is sent, percent for the rest; the rate is that of the last seconds.
  rate(client) {
    const sends = client.stage === "uploading" || client.stage === "downloading";
    if (!sends) return `${Math.floor((100 * client.done) / client.total)} %`;
    const now = performance.now() / 1000, before = this.before;
    if (!before || before.stage !== client.stage || before.done > client.done) {
      this.before = { stage: client.stage, done: client.done, at: now };
      return `${bytes(client.done)} of ${bytes(client.total)}`;
    }
    const speed = (client.done - before.done) / Math.max(0.1, now - before.at);
    const left = speed > 0 ? ` · ${bytes(speed)}/s · ${seconds(Math.ceil((client.total - client.done) / speed))} left` : "";
    return `${bytes(client.done)} of ${bytes(client.total)}${left}`;
  }
}

