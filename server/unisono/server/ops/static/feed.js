// What the coordinator says: documents, and a stream that tells what goes on.  The token stays in this tab.

const KEY = "unisono-ops-token";
let asking = null;

function headers() {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}` } : {};
}

function ask(again) {
  asking ||= new Promise((answered) => {
    const dialog = document.getElementById("ask"), field = document.getElementById("ask-token");
    document.getElementById("ask-wrong").textContent = again ? "That is not the token." : "";
    document.getElementById("ask-form").onsubmit = (event) => {
      event.preventDefault();
      sessionStorage.setItem(KEY, field.value.trim());
      field.value = "";
      dialog.close();
      asking = null;
      answered();
    };
    dialog.oncancel = (event) => event.preventDefault();
    dialog.showModal();
    field.focus();
  });
  return asking;
}

async function request(path, options) {
  for (;;) {
    const had = sessionStorage.getItem(KEY);
    const answer = await fetch(path, { headers: headers(), cache: "no-store", ...options });
    if (answer.status !== 401) return answer;
    await ask(had !== null);
  }
}

export async function get(path) {
  const answer = await request(path);
  const document = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(document.error?.message || answer.statusText), { status: answer.status });
  return document;
}

// Calls `picture` with what goes on, and `line` with "live" or why not.  Comes back by itself, a little later each time.
export async function follow(picture, line) {
  let pause = 1;
  for (;;) {
    try {
      const answer = await request("/api/v1/events");
      if (!answer.ok) throw new Error(await answer.text());
      line("live", true);
      pause = 1;
      await read(answer.body.getReader(), picture);
      line("the coordinator ended the stream; trying again", false);
    } catch {
      line("no answer from the coordinator; trying again", false);
    }
    await new Promise((done) => setTimeout(done, pause * 1000));
    pause = Math.min(10, pause * 2);
  }
}

async function read(reader, picture) {
  const decoder = new TextDecoder();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    const events = text.split("\n\n");
    text = events.pop();
    const last = events.filter((event) => event.includes("data: ")).pop(); // those before it are old already
    if (last) picture(JSON.parse(last.slice(last.indexOf("data: ") + 6)));
  }
}
