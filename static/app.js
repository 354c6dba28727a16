// What htmx cannot express in attributes: the outbox, what arrives, and local times. The files beside this one: panes.js
// opens other pages, log.js is the window onto a chat's history, keys.js is for the keyboard.
/** @type {Find} */ const $ = (selector, within = document) => within.querySelector(selector);
/** @type {FindAll} */ const $$ = (selector, within = document) => Array.from(within.querySelectorAll(selector));
const { body } = document;
const { me } = body.dataset;
const to = () => $("#composer [name=to]")?.value;

// The outbox: messages that are not acknowledged yet. All pages of a user share it, and it survives reloads.
const key = `knock-outbox-${me}`;
const outbox = () => /** @type {Unsent[]} */ (JSON.parse(localStorage.getItem(key) || "[]"));
const isHere = (/** @type {Unsent} */ item) => item.to === to();
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
  if (isOverdue(item)) $(".state", row)?.append(body.dataset.overdue ?? "");
  return row;
}

function refuse(/** @type {string | undefined} */ nonce) {
  const item = outbox().find((item) => item.nonce === nonce);
  const text = $("#body");
  if (!item || !isHere(item) || !text) return refusedElsewhere.add(nonce);
  forget(new Set([nonce]));
  keepDraft([item.body, text.value].filter(Boolean).join("\n"));
  if (!$("#refusals")?.textContent) $("#refusals")?.append(body.dataset.refused ?? "");
}

async function post(/** @type {Unsent} */ item) {
  const { to, body: text, nonce, reply_to } = item;
  const sent = new URLSearchParams({ body: text, nonce, reply_to: reply_to ?? "" });
  const form = { method: "POST", body: sent, headers: { "HX-Request": "true" } };
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
  if (today !== new Date().toDateString()) {
    localTimes(document); // the tab was open overnight
    settle();
  }
  showPresence(); // the time goes on
  const isOver = (/** @type {HTMLElement} */ { dataset }) => Date.parse(dataset.muted ?? "") < Date.now();
  for (const it of $$("#chats [data-muted]").filter(isOver)) {
    delete it.dataset.muted;
    settle();
  }
  setTimeout(retry, 1000);
}

document.addEventListener("htmx:ws:before:message:outgoing", (event) => {
  const { values } = event.detail.message;
  const text = $("#body");
  if (values.action !== "send" || !text) return;
  values.nonce = crypto.getRandomValues(new Uint32Array(4)).join("-"); // randomUUID is missing on plain http
  const { to, body, reply_to, nonce } = values;
  keep([...outbox(), { to, body, reply_to, nonce, at: Date.now() }]);
  giveUp();
  keepDraft("");
  text.focus();
  $("#refusals")?.replaceChildren();
  toEnd();
  unmark(); // an answer says that all of it was seen
});
// On a touch screen Enter breaks the line, since there is no other way to.
const isTouch = matchMedia("(pointer: coarse)");
document.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || isTouch.matches) return;
  if (event.target !== $("#body") || !event.target) return;
  event.preventDefault();
  if ($("#body")?.value.trim()) $("#composer")?.requestSubmit();
});

// What arrived and is not settled yet.
let arrived = /** @type {Element[]} */ ([]);
let acknowledged = /** @type {Nonces} */ (new Set());
const ahead = new Set(/** @type {number[]} */ ([])); // versions that arrived before a lower one
const unloaded = new Map(/** @type {[string, Element][]} */ ([])); // what arrived while older or newer ones are loading
const version = (/** @type {Maybe} */ it) => Number(it?.dataset.version);
const order = (/** @type {Maybe} */ it) => Number(it?.dataset.order);
const seq = (/** @type {Maybe} */ it) => Number(it?.dataset.seq);

document.addEventListener("htmx:before:swap", ({ detail: { ctx, tasks } }) => {
  const more = ctx.sourceElement?.closest(".history .more");
  const log = $(".chat > .scroll");
  if (log) log.ariaLive = more ? "off" : "polite"; // what one scrolls to is no news
  hold();
  const isEnd = more && tasks.some(({ fragment }) => $("#last", fragment)?.value === "");
  for (const { fragment, target } of tasks) {
    say(fragment);
    for (const mine of $$(`[data-nonce][data-author="${me}"]`, fragment)) acknowledged.add(mine.dataset.nonce);
    if ($("#pane", fragment) || (typeof target === "string" && !$(target))) continue; // this page does not show it
    const isMore = ctx.sourceElement?.closest(".list .more");
    if (ctx.sourceElement === $(".list [hx-get='/']")) leaveOut($$("[data-order]", fragment));
    for (const entry of $$("[data-order]", fragment)) if (isMore || !isBeyond(entry)) admit(entry);
    for (const message of $$(".message[data-seq]", fragment)) receive(message, Boolean(more));
    const late = Array.from(unloaded.values()).filter((it) => isEnd && seq(it) > Number($("#last")?.value));
    if (!$(".message[data-seq]", fragment)) continue;
    fragment.append(...late);
    late.forEach(admit);
  }
  if (more?.matches(".newer")) for (const it of unloaded.values()) if (seq(it) > seq(rows()[0])) unloaded.delete(it.id);
});

/** Takes away an entry that belongs to a page of the list that is not loaded yet. Returns whether it does. */
function isBeyond(/** @type {Element} */ entry) {
  const last = $$("#chats li:not(:has([aria-current]))").pop();
  const isKnown = document.getElementById(entry.id) || $("[aria-current]", entry);
  const isSo = $(".list .more") && !isKnown && order(entry) < order(last);
  if (isSo) entry.remove();
  return isSo;
}

let listed = new Map(/** @type {[string, number][]} */ ([])); // the list and its versions when it began to catch up
/** Takes away chats that the list's beginning no longer has. */
function leaveOut(/** @type {HTMLElement[]} */ entries) {
  const ids = new Set(entries.map(({ id }) => id));
  const last = entries.length < 50 ? 0 : order(entries.at(-1)); // PAGE of web/chat/lists.py
  for (const it of $$("#chats li:not(:has([aria-current]))"))
    if (!ids.has(it.id) && order(it) > last && listed.get(it.id) === version(it)) it.remove();
}

function receive(/** @type {Element} */ message, /** @type {boolean} */ isLoaded) {
  if (message.dataset.author === to()) $(".typing")?.replaceChildren();
  ahead.add(version(message));
  if (isLoaded) {
    const changed = unloaded.get(message.id);
    unloaded.delete(message.id);
    if (changed && version(changed) > version(message)) message.replaceWith(changed);
    return admit(changed?.parentNode ? changed : message);
  }
  const isBefore = seq(message) < Number($("#first")?.value); // with a gap between it and the page's first
  const isAfter = seq(message) > Number($("#last")?.value || Infinity);
  arrive(message);
  if (!(isBefore || isAfter) || document.getElementById(message.id)) return admit(message);
  message.remove();
  if (isBefore || $(".newer .htmx-request")) unloaded.set(message.id, message);
}

let refocus = /** @type {HTMLElement | null} */ (null); // in what takes the place of an element with the focus
/** Makes an element ready for the page, unless the page holds a newer version. */
function admit(/** @type {Element} */ it) {
  const held = document.getElementById(it.id);
  if (held && version(held) > version(it)) return it.remove();
  it.toggleAttribute("data-mine", it.dataset.author === me);
  if (it.dataset.order && unreadIn(it) > unreadIn(held)) notice(it);
  if (unreadIn(held) && !unreadIn(it)) clearNotice(it);
  for (const reacted of $$(`[data-author="${me}"]`, it)) reacted.dataset.mine = "";
  isEdited(it);
  callThem(it);
  if (held?.contains(document.activeElement)) refocus = $(":scope > a, time", it)?.closest("a") ?? null;
  if (held?.contains(tools())) $(".bubble", it)?.append(tools() ?? "");
  // Without a new message, whoever was typing still is.
  if (held && held.dataset.order === it.dataset.order) $(".types", it)?.replaceChildren(...$$(".types > *", held));
  if (held?.dataset.new) it.dataset.new = held.dataset.new; // the line above it
  $(`a[href="/chat/${to()}"]`, it)?.setAttribute("aria-current", "page");
  localTimes(it);
  arrived.push(it);
  if (!held && it.dataset.order && $(".list .more")) further -= Math.max(0, unreadIn(it) - 1); // it comes from there
  // hx-upsert replaces in place, so an entry that moves up is taken away first.
  if (!held || held.dataset.order === it.dataset.order) return;
  held.remove();
}

/** What a user wants to be called, as the bar or the chat list has it. */
const called = (/** @type {string} */ username) =>
  $(username === me ? ".bar .who .name" : `#chats a[href="/chat/${username}"] .name`)?.textContent ?? username;
/** Calls by their names whom messages quote and who reacted: those are the same for every reader. */
function callThem(/** @type {ParentNode} */ within) {
  for (const it of $$(".message-quote b, .reaction [data-author]", within)) it.textContent = called(it.textContent);
}

/** Puts into words, in the page's language, what comes without them. */
function say(/** @type {ParentNode} */ within) {
  for (const it of $$("[data-say]", within))
    it.textContent = body.dataset[it.dataset.say ?? ""]?.replace("{}", () => called(it.dataset.name ?? "")) ?? "";
}
const { lang } = document.documentElement;
const locale = navigator.languages.find((it) => it.startsWith(lang)) ?? lang;
// Making one of these takes as long as formatting ten times.
const clock = new Intl.DateTimeFormat(locale, { timeStyle: "short" });
const calendar = new Intl.DateTimeFormat(locale, { day: "numeric", month: "short" });
const inFull = new Intl.DateTimeFormat(locale, { dateStyle: "full", timeStyle: "short" });
const relative = new Intl.RelativeTimeFormat(locale, { numeric: "auto" });

function timeOf(/** @type {Date} */ moment, isToday = moment.toDateString() === new Date().toDateString()) {
  return (isToday ? clock : calendar).format(moment);
}
function localTimes(/** @type {ParentNode} */ within) {
  const now = new Date().toDateString();
  for (const time of $$("time", within)) {
    const moment = new Date(time.dateTime);
    const date = moment.toDateString();
    const message = time.closest(".message");
    if (message) message.dataset.date = date;
    time.textContent = timeOf(moment, Boolean(message) || date === now);
    time.title = inFull.format(moment);
  }
}

function dayOf(/** @type {string} */ date) {
  const yesterday = new Date();
  yesterday.setDate(yesterday.getDate() - 1);
  const said =
    date === today
      ? relative.format(0, "day")
      : date === yesterday.toDateString()
        ? relative.format(-1, "day")
        : new Date(date).toLocaleString(locale, { dateStyle: "full" });
  return said.charAt(0).toLocaleUpperCase(locale) + said.slice(1);
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
    else it.dataset.day = dayOf(date);
  }
}

/** Shows who is here: a dot in the list, and the second line of the chat's head. */
function showPresence() {
  const online = new Set($$("#presence [data-online]").map((it) => `/chat/${it.dataset.name}`));
  for (const it of $$("#chats a")) {
    it.title = online.has(it.getAttribute("href") ?? "") ? (body.dataset.online ?? "") : "";
  }
  const { online: here, seen } = $(`#presence [data-name="${to()}"]`)?.dataset ?? {};
  const minutes = Math.max(5, Math.round((Date.now() - Date.parse(seen ?? "")) / 300_000) * 5);
  /** @type {[number, Intl.RelativeTimeFormatUnit]} */
  const ago = minutes < 60 ? [minutes, "minute"] : minutes < 1440 ? [minutes / 60, "hour"] : [minutes / 1440, "day"];
  const last = seen && body.dataset.seen?.replace("{}", relative.format(-Math.round(ago[0]), ago[1]));
  const words = (here === undefined ? last : body.dataset.online) ?? "";
  const line = $(".presence");
  if (line && line.textContent !== words) line.textContent = words;
}

/** Tells the server something by a hidden form, if that is news; returns whether it did. */
function report(/** @type {Reported} */ field, /** @type {number | boolean} */ value) {
  const input = $(field);
  if (!input?.form || body.dataset.socket !== "open" || input.value === String(value)) return false;
  for (const other of $$("[name=version], [name=seq]", input.form)) other.value = "";
  input.value = String(value);
  return htmx.trigger(input.form, "knock:report");
}

function settle() {
  if (acknowledged.size) forget(acknowledged);
  nameDays();
  for (const it of arrived) if (it.dataset.undelivered) deliver(it);
  showReading();
  showKept();
  showPresence();
  showNotices();
  for (const refusal of $$("#refusals [data-nonce]:not([data-retry])")) refuse(refusal.dataset.nonce);
  arrived = [];
  acknowledged = new Set();
  const cursor = $("#cursor"); // follows while nothing is missing, so that the next catch-up asks for little
  for (const it of ahead) if (it <= Number(cursor?.value)) ahead.delete(it);
  while (cursor && ahead.delete(Number(cursor.value) + 1)) cursor.value = String(Number(cursor.value) + 1);
  follow(Math.max(Number(cursor?.value), version($(".messages")?.lastElementChild) || 0));
  report("#view [name=visible]", !document.hidden);
  syncDraft();
  const shown = $$("#chats li:not([data-muted])").reduce((sum, entry) => sum + unreadIn(entry), 0);
  const total = $("#total"); // there are chats beyond those of the list
  if (total?.value) further = Number(total.value) - shown;
  if (total) total.value = "";
  const unread = shown + Math.max(0, further);
  const { title = "", end } = $("#pane")?.dataset ?? {};
  const current = unreadIn($("#chats li:not([data-muted]) [aria-current]"));
  const count = unread - (end === undefined ? 0 : current);
  const others = unread - current;
  $(".back .others")?.replaceChildren(others > 0 ? String(others) : "");
  navigator.setAppBadge?.(unread).catch(() => {}); // only an installed app has one
  document.title = count ? `(${count}) ${title}` : title;
}
let further = 0;
const unreadIn = (/** @type {Maybe} */ it) => Number(it?.querySelector(".unread")?.firstChild?.textContent ?? 0);

/** Makes the page what its pane needs, which is new, or was shown before and left at these places. */
function opened(isNew = true, tops = /** @type {number[]} */ ([])) {
  const pane = $("#pane");
  if (!pane) return;
  const day = new Date().toDateString();
  const isOfToday = !isNew && pane.dataset.today === day;
  pane.dataset.today = day;
  ahead.clear();
  unloaded.clear();
  acknowledged = new Set($$(".message[data-mine]", pane).map((message) => message.dataset.nonce));
  body.toggleAttribute("data-chat", Boolean(to()));
  for (const it of $$("#chats [aria-current]")) it.removeAttribute("aria-current");
  const current = $(`#chats a[href="/chat/${to()}"]`);
  current?.setAttribute("aria-current", "page");
  for (const it of $$(".bar nav a")) it.ariaCurrent = it.dataset.page === pane.dataset.page ? "page" : null;
  if (!isOfToday) {
    localTimes(pane);
    today = ""; // names all days
    nameDays();
  }
  if (isNew) callThem(pane);
  keep(outbox());
  openDraft(isNew);
  showReading();
  // From here on the browser has to lay out the page for an answer, so it is to be as it will be.
  for (const it of tops.some(Boolean) ? $$(".scroll", pane) : []) it.scrollTo(0, tops.shift() ?? 0);
  openLog(isNew);
  settle();
  current?.scrollIntoView({ block: "nearest" });
  catchUp();
  if (!isTouch.matches) $("#body")?.focus();
}
function catchUp() {
  const it = $("#catch-up");
  if (it && body.dataset.socket === "open") htmx.trigger(it, "knock:catch-up");
}

document.addEventListener("htmx:after:swap", ({ detail: { ctx } }) => {
  if (isChanging) return; // the pane is not ready to tell what was read, or typed, in which chat
  refocus?.focus();
  refocus = null;
  release(ctx.sourceElement?.id === "catch-up");
  settle();
});
for (const it of ["scrollend", "visibilitychange"]) document.addEventListener(it, settle, true);
body.addEventListener("htmx:ws:after:connection", ({ detail }) => {
  connection = detail.connection;
  body.dataset.socket = "open";
  for (const form of $$("#view, #read")) form.reset();
  saved = "";
  delete $(".chat > .scroll")?.dataset.read; // what was said may not have arrived
  listed = new Map($$("#chats li").map((it) => [it.id, version(it)]));
  catchUp();
  settle();
});
body.addEventListener("htmx:ws:close", ({ detail: { code } }) => {
  body.dataset.socket = Number(code) >= 4400 ? "ended" : "lost"; // what has ended does not come back by itself
  body.dataset.code = String(code);
  for (const it of $$("#connection .ended a")) it.setAttribute("href", `/login?next=${encodeURIComponent(here)}`);
});
// Then the composer is a form like any other.
document.addEventListener(
  "submit",
  (it) => body.dataset.socket === "ended" && !editing && it.stopImmediatePropagation(),
  true,
);
// After a logout the page says so, and does not take people away from what they are writing.
document.addEventListener("htmx:before:response", (event) => {
  if (event.detail.ctx.response.status === 401) event.preventDefault();
});
// hx-ws would close a socket that is still opening, which browsers report as an error; it ends with its page anyway.
addEventListener("pagehide", (event) => event.stopImmediatePropagation());
addEventListener("pageshow", (event) => event.persisted && location.reload());
document.addEventListener("DOMContentLoaded", () => {
  localTimes($(".list") ?? document);
  opened();
  retry();
});
