// What htmx cannot say in attributes: the outbox, local times, what was read, and the title's count.
"use strict";
const { body, title } = document;
const $ = (selector) => document.querySelector(selector);
const $$ = (selector) => [...document.querySelectorAll(selector)];
const composer = $("#composer");
const { to, body: text } = composer?.elements ?? {};
const messages = $(".messages");
const log = messages?.closest(".scroll");

// The outbox: what was written and not yet acknowledged, by user, kept across reloads and pages.
const key = `knock-outbox-${body.dataset.me}`;
const outbox = () => JSON.parse(localStorage.getItem(key) || "[]");
const isHere = (item) => item.to === to?.value;
const isOverdue = (item) => Date.now() - item.at > 5000;
const refusedElsewhere = new Set(); // their author learns why in that chat
function keep(items) {
  localStorage.setItem(key, JSON.stringify(items));
  const rows = items.filter(isHere).map((item) => {
    const row = $("#pending-message").content.firstElementChild.cloneNode(true);
    row.dataset.nonce = item.nonce;
    row.querySelector(".message-body").textContent = item.body;
    if (isOverdue(item)) row.querySelector(".state").textContent = "Not sent yet. Trying again…";
    return row;
  });
  $("#pending")?.replaceChildren(...rows);
}
const forget = (nonce) => keep(outbox().filter((item) => item.nonce !== nonce));

function refuse(nonce) {
  const item = outbox().find((item) => item.nonce === nonce);
  if (!item || !isHere(item)) return refusedElsewhere.add(nonce);
  forget(nonce);
  text.value = [item.body, text.value].filter(Boolean).join("\n");
  $("#refusals").textContent ||= "Knock cannot take this message; it may be too long.";
}

async function post({ to, body: text, nonce }) {
  const form = { method: "POST", body: new URLSearchParams({ body: text, nonce }), headers: { "HX-Request": true } };
  const answer = await fetch(`/chat/${to}/messages`, { ...form, signal: AbortSignal.timeout(10_000) });
  const html = { text: await answer.text(), sourceElement: body, target: body, swap: "none" };
  if (answer.ok || answer.status === 422) await htmx.swap(html);
  if ([404, 413, 422].includes(answer.status)) return refuse(nonce);
  if (!answer.ok) throw new Error(answer.status);
  forget(nonce);
  // The socket lost what HTTP brought, so it may be dead; after close() a browser would wait a minute for its answer.
  if (body.dataset.socket === "open") connection.socket.dispatchEvent(new CloseEvent("close", { code: 1006 }));
}

let connection, isRetrying;
async function retry() {
  const due = outbox().filter((item) => isOverdue(item) && !refusedElsewhere.has(item.nonce));
  if (isRetrying || !due.length || body.dataset.socket === "ended") return;
  isRetrying = true;
  keep(outbox());
  // One after the other, so that they keep their order; after a failure the rest waits for the next turn.
  for (const item of due) if (!(await post(item).then(() => true, () => false))) break;
  isRetrying = false;
}

composer?.addEventListener("htmx:ws:before:message:outgoing", ({ detail: { message: { values } } }) => {
  values.nonce = crypto.getRandomValues(new Uint32Array(4)).join("-"); // randomUUID is missing on plain http
  keep([...outbox(), { to: values.to, body: values.body, nonce: values.nonce, at: Date.now() }]);
  text.value = "";
  text.focus();
  $("#refusals").replaceChildren();
  log.scrollTop = 0;
});
text?.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (text.value.trim()) composer.requestSubmit();
});
// The last word of typing, held back by its throttle, may come when the message is already sent.
$("#typing")?.addEventListener("htmx:ws:before:message:outgoing", (event) => text.value || event.preventDefault());

document.addEventListener("htmx:before:swap", ({ detail: { ctx, tasks } }) => {
  const isOlder = Boolean(ctx.sourceElement?.closest(".history .more"));
  if (log) log.ariaLive = isOlder ? "off" : "polite"; // what is old did not arrive
  for (const arriving of tasks.flatMap(({ fragment }) => [...fragment.querySelectorAll("[id][data-version]")])) {
    const held = document.getElementById(arriving.id);
    arriving.toggleAttribute("data-mine", arriving.dataset.author === body.dataset.me);
    // A change of a message that is older than those on the page would stand above a gap.
    if (!held && !isOlder && Number(arriving.dataset.seq) < Number($("#first")?.value)) {
      arriving.remove();
      continue;
    }
    if (arriving.dataset.author === to?.value) $(".typing")?.replaceChildren();
    // What is older than what the page holds changes nothing.
    if (Number(held?.dataset.version) > Number(arriving.dataset.version)) arriving.remove();
    // hx-upsert replaces in place, and a chat that moves up has to be put anew.
    else if (held && held.dataset.order !== arriving.dataset.order) {
      if (held.contains(document.activeElement)) queueMicrotask(() => arriving.querySelector("a").focus());
      held.remove();
    }
  }
});

// Times are the reader's own, and each day is named once, above its first message.
function localTimes() {
  const today = new Date().toDateString();
  for (const time of $$("time:not([title])")) {
    const moment = new Date(time.dateTime);
    const date = moment.toDateString();
    const message = time.closest(".message");
    if (message) message.dataset.date = date;
    const form = message || date === today ? { timeStyle: "short" } : { day: "numeric", month: "short" };
    time.textContent = moment.toLocaleString([], form);
    time.title = moment.toLocaleString([], { dateStyle: "full", timeStyle: "short" });
  }
  for (const { dataset: it, previousElementSibling: before } of messages?.children ?? []) {
    if (it.date === before?.dataset.date) delete it.day;
    else it.day = it.date === today ? "Today" : new Date(it.date).toLocaleString([], { dateStyle: "full" });
  }
}

// Says what the server does not know yet.
function tell(form, field, value) {
  const input = $(form).elements[field];
  if (body.dataset.socket !== "open" || input.value === String(value)) return;
  input.value = value;
  htmx.trigger(form, "knock:tell");
}

function settle() {
  keep(outbox().filter(({ nonce }) => !$(`[data-seq][data-nonce="${nonce}"]`)));
  for (const said of $$(".send-refused[data-nonce]:not([data-retry])")) refuse(said.dataset.nonce);
  localTimes();
  const cursor = $("#cursor"); // follows while nothing is missing, so that the next catch-up asks for little
  while (messages?.querySelector(`[data-version="${Number(cursor?.value) + 1}"]`)) cursor.value++;
  const shown = Math.max(cursor?.value, messages?.lastElementChild?.dataset.version ?? 0);
  if (cursor && !document.hidden && log.scrollTop > -80) tell("#read", "version", shown);
  tell("#view", "visible", !document.hidden);
  $(`#chats a[href="/chat/${to?.value}"]`)?.setAttribute("aria-current", "page");
  const unread = $$(`#chats a${document.hidden ? "" : ":not([aria-current])"} .unread`);
  const count = unread.reduce((sum, one) => sum + parseInt(one.textContent), 0);
  document.title = count ? `(${count}) ${title}` : title;
}

for (const change of ["htmx:after:swap", "visibilitychange"]) document.addEventListener(change, settle);
log?.addEventListener("scrollend", settle);
body.addEventListener("htmx:ws:after:connection", ({ detail }) => {
  connection = detail.connection;
  body.dataset.socket = "open";
  for (const form of $$("#view, #read")) form.reset();
  settle();
});
// Whoever is logged out is told so, and not taken away from what they are writing.
document.addEventListener("htmx:before:response", (event) => event.detail.ctx.response.status !== 401 || event.preventDefault());
body.addEventListener("htmx:ws:close", ({ detail }) => (body.dataset.socket = detail.code === 4401 ? "ended" : "lost"));
// htmx would close a socket that is still opening, which browsers call an error; this one ends with its page.
addEventListener("pagehide", (event) => event.stopImmediatePropagation());
addEventListener("pageshow", (event) => event.persisted && location.reload());
setInterval(retry, 1000);
settle();
$("#chats [aria-current]")?.scrollIntoView({ block: "nearest" });
if (matchMedia("(pointer: fine)").matches) text?.focus();
