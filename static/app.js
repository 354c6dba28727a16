// What htmx cannot express in attributes: the outbox, local times, what was read, and the count in the title.
/** @type {Find} */ const $ = (selector, within = document) => within.querySelector(selector);
/** @type {FindAll} */ const $$ = (selector, within = document) => Array.from(within.querySelectorAll(selector));
const { body, title } = document;
const { me } = body.dataset;
const composer = $("#composer");
const text = $("#body");
const to = $("#composer [name=to]")?.value;
const log = $(".chat > .scroll");

// The outbox: messages that are not acknowledged yet. All pages of a user share it, and it survives reloads.
const key = `knock-outbox-${me}`;
const outbox = () => /** @type {Unsent[]} */ (JSON.parse(localStorage.getItem(key) || "[]"));
const isHere = (/** @type {Unsent} */ item) => item.to === to;
const isOverdue = (/** @type {Unsent} */ item) => Date.now() - item.at > 5000;
/** @type {Nonces} */ const refusedElsewhere = new Set(); // their authors learn why when they open that chat

function keep(/** @type {Unsent[]} */ items) {
  localStorage.setItem(key, JSON.stringify(items));
  $("#pending")?.replaceChildren(...items.filter(isHere).map(pendingMessage));
}
const forget = (/** @type {Nonces} */ nonces) => keep(outbox().filter((item) => !nonces.has(item.nonce)));

function pendingMessage(/** @type {Unsent} */ item) {
  const row = /** @type {DocumentFragment} */ ($("#pending-message")?.content.cloneNode(true));
  $("li", row)?.setAttribute("data-nonce", item.nonce);
  $(".message-body", row)?.append(item.body);
  if (isOverdue(item)) $(".state", row)?.append("Not sent yet. Trying again…");
  return row;
}

function refuse(/** @type {string | undefined} */ nonce) {
  const item = outbox().find((item) => item.nonce === nonce);
  if (!item || !isHere(item) || !text) return refusedElsewhere.add(nonce);
  forget(new Set([nonce]));
  text.value = [item.body, text.value].filter(Boolean).join("\n");
  if (!$("#refusals")?.textContent) $("#refusals")?.append("Knock cannot take this message; it may be too long.");
}

async function post(/** @type {Unsent} */ item) {
  const { to, body: text, nonce } = item;
  const form = { method: "POST", body: new URLSearchParams({ body: text, nonce }), headers: { "HX-Request": "true" } };
  const answer = await fetch(`/chat/${to}/messages`, { ...form, signal: AbortSignal.timeout(10_000) });
  const html = { text: await answer.text(), sourceElement: body, target: body, swap: "none" };
  if (answer.ok || (answer.status === 422 && isHere(item))) await htmx.swap(html);
  if ([404, 413, 422].includes(answer.status)) return refuse(nonce);
  if (!answer.ok) throw new Error(String(answer.status));
  forget(new Set([nonce]));
  // The socket lost what HTTP brought, so it may be dead. After close() it could wait a minute for the server's answer.
  if (body.dataset.socket === "open") connection?.socket.dispatchEvent(new CloseEvent("close", { code: 1006 }));
}

let connection = /** @type {Connection | null} */ (null);
async function retry() {
  const due = outbox().filter((item) => isOverdue(item) && !refusedElsewhere.has(item.nonce));
  if (due.length && body.dataset.code !== "4401") {
    keep(outbox()); // which shows that they are overdue
    // One by one, so that they keep their order; after a failure the rest waits for the next turn.
    for (const item of due) if ((await post(item).catch(() => "lost")) === "lost") break;
  }
  setTimeout(retry, 1000);
}

composer?.addEventListener("htmx:ws:before:message:outgoing", ({ detail: { message } }) => {
  const { values } = message;
  values.nonce = crypto.getRandomValues(new Uint32Array(4)).join("-"); // randomUUID is missing on plain http
  keep([...outbox(), { to: values.to, body: values.body, nonce: values.nonce, at: Date.now() }]);
  if (text) text.value = "";
  text?.focus();
  $("#refusals")?.replaceChildren();
  log?.scrollTo(0, 0);
});
text?.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (text.value.trim()) composer?.requestSubmit();
});
// The throttle can hold the last "typing" back until the message is already sent.
$("#typing")?.addEventListener("htmx:ws:before:message:outgoing", (event) => text?.value || event.preventDefault());

// What arrived and is not settled yet.
let arrived = /** @type {Element[]} */ ([]);
let acknowledged = new Set($$("[data-mine]").map((message) => message.dataset.nonce));
const ahead = new Set(/** @type {number[]} */ ([])); // versions that arrived before a lower one
const unloaded = new Map(/** @type {[string, Element][]} */ ([])); // changes of messages that are not loaded yet
const version = (/** @type {Maybe} */ it) => Number(it?.dataset.version);
const unreadIn = (/** @type {Maybe} */ it) => Number(it?.querySelector(".unread")?.firstChild?.textContent ?? 0);
let unread = $$("#chats > li").reduce((sum, entry) => sum + unreadIn(entry), 0);

document.addEventListener("htmx:before:swap", ({ detail: { ctx, tasks } }) => {
  const isOlder = Boolean(ctx.sourceElement?.closest(".history .more"));
  if (log) log.ariaLive = isOlder ? "off" : "polite"; // older messages are no news
  for (const { fragment, target } of tasks) {
    for (const mine of $$(`[data-author="${me}"]`, fragment)) acknowledged.add(mine.dataset.nonce);
    if (typeof target === "string" && !$(target)) continue; // this page does not show it
    for (const entry of $$("[data-order]", fragment)) admit(entry);
    for (const message of $$("[data-seq]", fragment)) receive(message, isOlder);
  }
});

function receive(/** @type {Element} */ message, /** @type {boolean} */ isOlder) {
  if (message.dataset.author === to) $(".typing")?.replaceChildren();
  ahead.add(version(message));
  const changed = unloaded.get(message.id) ?? message;
  const newest = version(changed) > version(message) ? changed : message;
  message.replaceWith(newest);
  const isBefore = Number(newest.dataset.seq) < Number($("#first")?.value); // with a gap between it and the page's first
  if (isOlder || !isBefore || document.getElementById(newest.id)) return admit(newest);
  newest.remove();
  unloaded.set(newest.id, newest);
}

/** Makes an element ready for the page, unless the page holds a newer version. */
function admit(/** @type {Element} */ it) {
  const held = document.getElementById(it.id);
  if (held && version(held) > version(it)) return it.remove();
  it.toggleAttribute("data-mine", it.dataset.author === me);
  $(`a[href="/chat/${to}"]`, it)?.setAttribute("aria-current", "page");
  localTimes(it);
  arrived.push(it);
  unread += unreadIn(it) - unreadIn(held);
  // hx-upsert replaces in place, so an entry that moves up is taken away first.
  if (!held || held.dataset.order === it.dataset.order) return;
  if (held.contains(document.activeElement)) queueMicrotask(() => $("a", it)?.focus());
  held.remove();
}

function localTimes(/** @type {ParentNode} */ within) {
  const now = new Date().toDateString();
  for (const time of $$("time", within)) {
    const moment = new Date(time.dateTime);
    const date = moment.toDateString();
    const message = time.closest(".message");
    if (message) message.dataset.date = date;
    /** @type {Intl.DateTimeFormatOptions} */
    const form = message || date === now ? { timeStyle: "short" } : { day: "numeric", month: "short" };
    time.textContent = moment.toLocaleString([], form);
    time.title = moment.toLocaleString([], { dateStyle: "full", timeStyle: "short" });
  }
}

// Each day is named once, above its first message. When "Today" is over, all are named again.
let today = "";
function nameDays() {
  const isNew = today !== new Date().toDateString();
  today = new Date().toDateString();
  const changed = isNew ? ($(".messages")?.children ?? []) : arrived.flatMap((it) => [it, it.nextElementSibling]);
  for (const it of changed) {
    const date = it?.dataset.date;
    if (!date) continue;
    if (date === it.previousElementSibling?.dataset.date) delete it.dataset.day;
    else it.dataset.day = date === today ? "Today" : new Date(date).toLocaleString([], { dateStyle: "full" });
  }
}

/** Tells the server something by a hidden form, if that is news. */
function report(/** @type {Reported} */ field, /** @type {number | boolean} */ value) {
  const input = $(field);
  if (!input?.form || body.dataset.socket !== "open" || input.value === String(value)) return;
  input.value = String(value);
  htmx.trigger(input.form, "knock:report");
}

function settle() {
  if (acknowledged.size) forget(acknowledged);
  nameDays();
  for (const refusal of $$("#refusals [data-nonce]:not([data-retry])")) refuse(refusal.dataset.nonce);
  arrived = [];
  acknowledged = new Set();
  const cursor = $("#cursor"); // follows while nothing is missing, so that the next catch-up asks for little
  for (const it of ahead) if (it <= Number(cursor?.value)) ahead.delete(it);
  while (cursor && ahead.delete(Number(cursor.value) + 1)) cursor.value = String(Number(cursor.value) + 1);
  const shown = Math.max(Number(cursor?.value), version($(".messages")?.lastElementChild) || 0);
  if (cursor && log && !document.hidden && log.scrollTop > -80) report("#read [name=version]", shown);
  report("#view [name=visible]", !document.hidden);
  const count = unread - (document.hidden ? 0 : unreadIn($("#chats [aria-current]")));
  document.title = count ? `(${count}) ${title}` : title;
}

for (const it of ["htmx:after:swap", "scrollend", "visibilitychange"]) document.addEventListener(it, settle, true);
body.addEventListener("htmx:ws:after:connection", ({ detail }) => {
  connection = detail.connection;
  body.dataset.socket = "open";
  for (const form of $$("#view, #read")) form.reset();
  settle();
});
body.addEventListener("htmx:ws:close", ({ detail: { code } }) => {
  body.dataset.socket = Number(code) >= 4400 ? "ended" : "lost"; // what has ended does not come back by itself
  body.dataset.code = String(code);
});
// Then the composer is a form like any other.
composer?.addEventListener("submit", (it) => body.dataset.socket === "ended" && it.stopImmediatePropagation(), true);
// After a logout the page says so, and does not take people away from what they are writing.
document.addEventListener("htmx:before:response", (event) => {
  if (event.detail.ctx.response.status === 401) event.preventDefault();
});
// hx-ws would close a socket that is still opening, which browsers report as an error; it ends with its page anyway.
addEventListener("pagehide", (event) => event.stopImmediatePropagation());
addEventListener("pageshow", (event) => event.persisted && location.reload());
localTimes(document);
keep(outbox());
settle();
retry();
$("#chats [aria-current]")?.scrollIntoView({ block: "nearest" });
if (matchMedia("(pointer: fine)").matches) text?.focus();
