// What htmx cannot say in attributes: the outbox, local times, what was read, and the title's count.
"use strict";
(() => {
  const $ = (selector) => document.querySelector(selector);
  const body = document.body;
  const composer = $("#composer");
  const messages = $(".messages");
  const cursor = () => $("#cursor");
  const random = () => [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

  // ---- the outbox: what was written and not yet acknowledged, kept across reloads, by user ----
  const UNSENT_AFTER = 5000;
  const key = "knock-outbox-" + body.dataset.me;
  const outbox = () => JSON.parse(localStorage.getItem(key) || "[]");
  const keep = (items) => localStorage.setItem(key, JSON.stringify(items));
  const pending = (nonce) => $(`#pending [data-nonce="${CSS.escape(nonce)}"]`);
  const isHere = (item) => composer?.elements.to.value === item.to;

  function show(item) {
    if (!isHere(item) || pending(item.nonce)) return;
    const row = $("#pending-message").content.cloneNode(true).firstElementChild;
    row.dataset.nonce = item.nonce;
    row.querySelector(".message-body").textContent = item.body;
    $("#pending").append(row);
  }

  function forget(nonce) {
    keep(outbox().filter((item) => item.nonce !== nonce));
    pending(nonce)?.remove();
  }

  function say(nonce, words) {
    const row = pending(nonce);
    if (!row) return;
    row.classList.add("unsent");
    row.querySelector(".state").textContent = words;
  }

  function refuse(nonce, retry, words) {
    if (retry) return say(nonce, words);
    const item = outbox().find((item) => item.nonce === nonce);
    forget(nonce);
    if (!item || !isHere(item)) return;
    const text = composer.elements.body;
    text.value = [item.body, text.value].filter(Boolean).join("\n");
  }

  const retrying = new Set();
  async function retry(item) {
    if (retrying.has(item.nonce)) return;
    retrying.add(item.nonce);
    try {
      const answer = await fetch(`/chat/${item.to}/messages`, {
        method: "POST",
        headers: { "HX-Request": "true" },
        body: new URLSearchParams({ body: item.body, nonce: item.nonce }),
        signal: AbortSignal.timeout(10000),
      });
      const text = await answer.text();
      if (answer.ok || answer.status === 422) await htmx.swap({ text, target: body, swap: "none" });
      if (answer.ok) forget(item.nonce);
      if (answer.status === 404) refuse(item.nonce, false);
    } catch {
      // no way to the server at the moment; the next turn tries again
    } finally {
      retrying.delete(item.nonce);
    }
  }

  function retryOverdue(age) {
    for (const item of outbox()) {
      if (Date.now() - item.at < age) continue;
      say(item.nonce, "Not sent yet. Trying again…");
      retry(item);
    }
  }

  composer?.addEventListener("htmx:ws:before:message:outgoing", ({ detail }) => {
    const { to, body: text } = detail.message.values;
    const item = { to, body: text, nonce: random(), at: Date.now() };
    detail.message.values.nonce = item.nonce;
    keep([...outbox(), item]);
    show(item);
    composer.elements.body.value = "";
    $("#refusals").replaceChildren();
  });

  composer?.elements.body.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (composer.elements.body.value.trim()) composer.requestSubmit();
  });

  // ---- swaps: a fragment that is older than what the page holds changes nothing ----
  body.addEventListener("htmx:before:swap", ({ detail }) => {
    for (const { fragment } of detail.tasks) {
      for (const arriving of fragment.querySelectorAll?.("[id][data-version]") ?? []) {
        const held = document.getElementById(arriving.id);
        if (!held) continue;
        if (Number(held.dataset.version) > Number(arriving.dataset.version)) arriving.remove();
        // hx-upsert replaces in place; a chat that moves up has to be put anew
        else if (held.dataset.order && held.dataset.order !== arriving.dataset.order) {
          if (held.contains(document.activeElement)) queueMicrotask(() => arriving.querySelector("a").focus());
          held.remove();
        }
      }
    }
  });

  // ---- what follows every change of the page ----
  const locale = (moment, options) => moment.toLocaleString([], options);
  const dayOf = (moment) => locale(moment, { weekday: "long", day: "numeric", month: "long", year: moment.getFullYear() === new Date().getFullYear() ? undefined : "numeric" });

  function localTimes() {
    for (const time of document.querySelectorAll("time:not([title])")) {
      const moment = new Date(time.dateTime);
      const isToday = moment.toDateString() === new Date().toDateString();
      time.title = locale(moment, { dateStyle: "full", timeStyle: "short" });
      const message = time.closest(".message");
      time.textContent = message || isToday ? locale(moment, { hour: "2-digit", minute: "2-digit" }) : locale(moment, { day: "numeric", month: "short" });
      if (message) message.dataset.date = dayOf(moment);
    }
    let before;
    for (const message of messages?.children ?? []) {
      const isFirst = message.dataset.date !== before;
      if (isFirst) message.dataset.day = message.dataset.date;
      else delete message.dataset.day;
      before = message.dataset.date;
    }
  }

  // The cursor follows while nothing is missing, so that the next catch-up asks for little.
  function moveCursor() {
    while (cursor() && messages.querySelector(`[data-version="${Number(cursor().value) + 1}"]`)) cursor().value++;
  }

  let readTo = 0;
  function tellRead() {
    if (!cursor() || document.hidden || messages.closest(".scroll").scrollTop < -80) return;
    const version = Math.max(Number(cursor().value), ...[...messages.children].slice(-1).map((message) => message.dataset.version));
    if (version <= readTo) return;
    $("#read").elements.version.value = readTo = version;
    htmx.trigger($("#read"), "knock:read");
  }

  function tellView() {
    $("#view").elements.visible.value = String(!document.hidden);
    htmx.trigger($("#view"), "knock:view");
  }

  const title = document.title;
  function settle() {
    for (const { nonce } of outbox()) if ($(`.message[data-seq][data-nonce="${CSS.escape(nonce)}"]`)) forget(nonce);
    for (const said of document.querySelectorAll("#refusals [data-nonce]")) refuse(said.dataset.nonce, "retry" in said.dataset, said.textContent);
    for (const link of document.querySelectorAll("#chats a")) {
      if (link.pathname === location.pathname) link.setAttribute("aria-current", "page");
    }
    localTimes();
    moveCursor();
    tellRead();
    const unread = [...document.querySelectorAll("#chats a:not([aria-current]) .unread")].reduce((sum, count) => sum + parseInt(count.textContent), 0);
    document.title = unread ? `(${unread}) ${title}` : title;
  }

  body.addEventListener("htmx:after:swap", settle);
  body.addEventListener("htmx:ws:after:connection", () => {
    body.dataset.socket = "open";
    readTo = 0;
    tellView();
    retryOverdue(1000);
    settle();
  });
  body.addEventListener("htmx:ws:close", ({ detail }) => {
    body.dataset.socket = detail.code === 4401 ? "ended" : "lost";
  });
  document.addEventListener("visibilitychange", () => (tellView(), tellRead()));
  messages?.closest(".scroll").addEventListener("scroll", tellRead, { passive: true });
  addEventListener("pageshow", (event) => event.persisted && location.reload());
  setInterval(() => retryOverdue(UNSENT_AFTER), 1000);

  outbox().forEach(show);
  settle();
  if (matchMedia("(pointer: fine)").matches) composer?.elements.body.focus();
})();
