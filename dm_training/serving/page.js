"use strict";
// One file at a time: sends it as it is (its name stays in the browser), shows the answer.

const at = (id) => document.getElementById(id);
const show = (id, shown) => { at(id).hidden = !shown; };
let token = "", last = null, running = null, picture = null;

function headers() {
  return token ? { Authorization: "Bearer " + token } : {};
}

async function about() {
  let found;
  try {
    const response = await fetch("about", { headers: headers() });
    if (response.status === 401) return askToken();
    found = await response.json();
    if (!response.ok) return fail(found.error);
  } catch {
    return fail("The server does not answer.");
  }
  show("token-form", false);
  at("model").textContent = `Model ${found.model}, version ${found.version}`;
  if (found.cannot_score) fail(`This model cannot judge files: ${found.cannot_score}.`);
}

function askToken() {
  at("model").textContent = "The model is shown once the token is given.";
  if (token) fail("The server does not know this token.");
  token = "";
  show("token-form", true);
  at("token").focus();
}

async function score(file, anyway) {
  running?.abort();
  const mine = running = new AbortController();
  last = file;
  show("result", false);
  show("error", false);
  const stop = tick();
  const query = `tta=${at("tta").checked ? 1 : 0}&anyway=${anyway ? 1 : 0}`;
  try {
    const response = await fetch("score?" + query, {
      method: "POST", body: formOf(file), headers: headers(), signal: mine.signal,
    });
    const found = await answerOf(response);
    if (response.ok) present(found, file);
    else refused(response.status, found);
  } catch (problem) {
    if (problem.name !== "AbortError") fail(unanswered(problem, file));
  } finally {
    stop();
    if (running === mine) running = null;
  }
}

function formOf(file) {  // of its name side and view alone leave the browser
  const told = /_(MG_)?(L|LEFT|R|RIGHT)[_-](CC|MLO|ML)(?![a-z])/i.exec(file.name);
  const [, inbreast, side, view] = told ?? [];  // INbreast's ML is an MLO
  const shown = inbreast && /^ml$/i.test(view) ? "MLO" : view;
  const form = new FormData();
  form.append("file", file, told ? `x_${side}_${shown}` : "x");
  return form;
}

async function answerOf(response) {
  try {
    return await response.json();
  } catch {
    return { error: "the answer cannot be read" };
  }
}

function unanswered(problem, file) {
  if (problem.name === "NotReadableError") return `${file.name} cannot be read by the browser.`;
  return "No answer came from the server: it may have stopped, or the file is larger than it takes.";
}

function tick() {
  const began = Date.now();
  const write = () => {
    const seconds = Math.floor((Date.now() - began) / 1000);
    at("busy").textContent = seconds < 2 ? "Scoring …" : `Scoring … ${seconds} s`;
  };
  write();
  const timer = setInterval(write, 5000);  // a screen reader speaks every change
  return () => { clearInterval(timer); at("busy").textContent = ""; };
}

function refused(status, found) {
  if (status === 401) return askToken();
  const words = {
    413: "The file is larger than this server takes.",
    429: "The server is busy. Try again in a moment.",
    503: "The server is stopping. Try again later.",
    504: "The server took too long.",
  };
  const said = String(found.error ?? "an error without a reason");
  fail(words[status] ?? said[0].toUpperCase() + said.slice(1) + (said.endsWith(".") ? "" : "."));
  show("anyway", Boolean(found.unsuitable));
}

function fail(text) {
  at("error-text").textContent = text;
  show("anyway", false);
  show("error", true);
}

function present(found, file) {
  const { probability, threshold, decision } = found;
  at("of").textContent = file.name;
  at("probability").textContent = inDigits(probability);
  decide(decision, threshold);
  at("fill").style.width = 100 * probability + "%";
  list("warnings", found.warnings);
  list("notes", found.notes);
  facts(found);
  pictured(found);
  show("result", true);
  at("result").focus();
}

function inDigits(share) {  // never certain; as shown_share.py
  if (share < 0.0001) return "< 0.0001";
  return share > 0.9999 ? "> 0.9999" : share.toFixed(4);
}

function decide(decision, threshold) {
  const stored = decision !== null;
  const word = document.createElement("strong");
  word.textContent = stored ? (decision === "positive" ? "Above the threshold: positive"
    : "Below the threshold: negative") : "No decision";
  const why = stored ? `operating point stored with the model: ${inDigits(threshold)}`
    : "no operating point is stored with this model";
  at("decision").replaceChildren(word, why);
  for (const id of ["mark", "mark-label"]) {
    show(id, stored);
    at(id).style.left = 100 * (threshold ?? 0) + "%";
  }
  at("mark-label").style.left = `clamp(4rem, ${100 * (threshold ?? 0)}%, 100% - 4rem)`;
  at("mark-label").textContent = stored ? `threshold ${inDigits(threshold)}` : "";
}

function list(id, lines) {
  show(id, lines.length > 0);
  at(id).querySelector("ul").replaceChildren(...lines.map((line) => {
    const item = document.createElement("li");
    item.textContent = line;
    return item;
  }));
}

function facts(found) {
  const side = { L: "left", R: "right" }[found.laterality];
  const rows = [
    ["Side and view", [side, found.view].filter(Boolean).join(", ") || "not known"],
    ["Size of the file’s image", found.source_size.join(" × ") + " pixels (rows × columns)"],
    ["Model", found.model], ["Version", found.version],
    ["Scored", found.flips === 4 ? "mean over four flips" : "once, as it is"],
    ["Time", found.seconds.toFixed(1) + " s"], ["Purpose", found.purpose],
  ];
  at("facts").replaceChildren(...rows.flatMap(([name, value]) => {
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  }));
}

function pictured(found) {
  if (picture) URL.revokeObjectURL(picture);
  picture = null;
  show("figure", Boolean(found.overlay));
  show("no-figure", !found.overlay);
  if (!found.overlay) return;
  const bytes = Uint8Array.from(atob(found.overlay), (letter) => letter.charCodeAt(0));
  picture = URL.createObjectURL(new Blob([bytes], { type: "image/png" }));
  at("picture").src = at("full").href = picture;
  at("picture").alt = "The mammogram, and beside it the same with the heat map over it";
}

function take(files) {
  if (!files.length) return;
  if (files.length > 1) return fail("One file at a time: " + files.length + " were given.");
  score(files[0], false);
}

at("file").addEventListener("click", (event) => {
  event.target.value = "";  // so that the same file can be chosen again
});
at("file").addEventListener("change", (event) => take([...event.target.files]));
at("tta").addEventListener("change", () => { if (last) score(last, false); });
at("anyway").addEventListener("click", () => score(last, true));
at("ask").addEventListener("submit", (event) => event.preventDefault());
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  at("token").value = "";
  show("error", false);
  about();
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind !== "drop") return;
    at("file").value = "";
    take([...event.dataTransfer.files]);
  });
}
about();
