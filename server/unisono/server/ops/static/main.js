// Which page this is, and the line to the coordinator that all of them share.
import { h, say } from "./dom.js";
import { follow, get } from "./feed.js";

const PAGES = {
  "/": ["Now", () => import("./now.js")],
  "/progress": ["Progress", () => import("./progress.js")],
  "/federation": ["Federation", () => import("./federation.js")],
  "/left-the-sites": ["Left the sites", () => import("./left.js")],
};

const [title, load] = PAGES[location.pathname] || PAGES["/"];
const main = document.getElementById("main");
document.title = `${title} · Unisono`;
for (const link of document.querySelectorAll("nav a")) {
  if (link.getAttribute("href") === location.pathname) link.setAttribute("aria-current", "page");
}

function line(words, well) {
  say(document.getElementById("live-words"), words);
  document.getElementById("live").className = well ? "live on" : "live off";
}

async function start() {
  const trouble = h("p", { class: "bad", role: "alert" });
  const heading = h("h1", null, title);
  main.append(heading, trouble);
  const page = await (await load()).open(main, get);
  let busy = false, waiting = null;
  async function show(picture) {
    if (busy) { waiting = picture; return; }
    busy = true;
    try {
      await page.show(picture);
      say(trouble, "");
    } catch (error) {
      say(trouble, `Something could not be shown: ${error.message}`);
    }
    busy = false;
    if (waiting) { const next = waiting; waiting = null; show(next); }
  }
  let last = null;
  // Tokens, certificates and the audit log change without a run: pages look again now and then.
  setInterval(() => { if (last && !document.hidden) show(last); }, 5000);
  follow((picture) => {
    last = picture;
    say(document.getElementById("federation"), picture.federation);
    document.title = `${title} · ${picture.federation} · Unisono`;
    show(picture);
  }, line);
}

start();
