// Other pages open beside the chat list, in #pane, while the socket stays. A chat that was open before shows at once, as it
// was left; so does whatever page Back leads to.
const panes = new Map(/** @type {[string, Kept][]} */ ([]));
let here = location.pathname + location.search;
let opening = new AbortController();
let isChanging = false; // from when the old pane goes until the new one is ready

function stash() {
  const pane = $("#pane");
  const shell = document.createElement("section");
  shell.id = "pane";
  if (!pane) return shell;
  panes.delete(here); // so that it is the newest now
  // Settings change with what others do, so they are always asked for.
  if (!pane.matches("[data-page=settings], .once"))
    panes.set(here, { pane, tops: $$(".scroll", pane).map((it) => it.scrollTop) });
  for (const [oldest] of panes) if (panes.size > 20) panes.delete(oldest);
  pane.replaceWith(shell);
  return shell;
}

/** Opens a page of this site. `kept` is its pane from before, if that may be shown. */
async function go(/** @type {string} */ path, push = true, /** @type {Kept | undefined} */ kept = undefined) {
  giveUp();
  saveDraft();
  clearTimeout(saving);
  opening.abort();
  opening = new AbortController();
  const text = kept ? "" : await load(path, opening.signal);
  if (text === null) return;
  const address = path.replace(/\?end=1$/, "");
  if (push && address !== here) history.pushState(null, "", address);
  isChanging = true;
  const shell = stash();
  here = address;
  away = Boolean(kept);
  if (kept) shell.replaceWith(kept.pane);
  else await htmx.swap({ text, sourceElement: body, target: shell, select: "#pane", swap: "outerHTML" });
  isChanging = false;
  opened(!kept, kept?.tops);
  const pane = $("#pane");
  if (!pane?.contains(document.activeElement)) ($("[autofocus]", pane ?? body) ?? pane)?.focus();
}

// A chat is asked for when one presses its link, a tenth of a second before the click. Looking at it changes nothing.
let pressed = { path: "", at: 0, answer: /** @type {Promise<Response | null>} */ (Promise.resolve(null)) };
document.addEventListener("pointerdown", ({ target, button }) => {
  const path = /** @type {Element} */ (target).closest("#chats a")?.getAttribute("href") ?? "";
  if (button || !path || panes.has(path) || path === here) return;
  pressed = { path, at: Date.now(), answer: ask(path) };
});
const ask = (/** @type {string} */ path, signal = /** @type {AbortSignal | null} */ (null)) =>
  fetch(path, { headers: { "HX-Request": "true", "HX-Target": "section#pane" }, signal }).catch(() => null);

/** A page's HTML, however long it takes until the server answers; null if something else is to be opened. */
async function load(/** @type {string} */ path, /** @type {AbortSignal} */ signal) {
  const late = setTimeout(() => body.toggleAttribute("data-unreachable", !signal.aborted), 900);
  try {
    for (;;) {
      const isPressed = pressed.path === path && Date.now() - pressed.at < 1000;
      const answer = await (isPressed ? pressed.answer : ask(path, signal));
      pressed.path = "";
      const text = await answer?.text().catch(() => null);
      if (signal.aborted) return null;
      if (answer?.ok && text?.includes('id="pane"')) return text;
      if (answer && answer.status < 500) {
        location.assign(answer.headers.get("HX-Redirect") ?? path);
        return null;
      }
      body.toggleAttribute("data-unreachable", true);
      await new Promise((then) => setTimeout(then, 1000));
    }
  } finally {
    clearTimeout(late);
    if (!signal.aborted || signal === opening.signal) body.toggleAttribute("data-unreachable", false);
  }
}

const isPage = (/** @type {URL} */ url) =>
  url.origin === location.origin &&
  /^\/($|users$|search$|starred$|settings|admin|chat\/[^/]+(\/messages\/\d+)?$)/.test(url.pathname);

document.addEventListener("click", (event) => {
  const link = /** @type {Element} */ (event.target).closest("a");
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const url = new URL(link.href, location.href);
  if (link.target || link.hasAttribute("download") || link.hasAttribute("hx-get") || !isPage(url)) return;
  if (!link.getAttribute("href") || (url.hash && url.pathname === location.pathname)) return;
  event.preventDefault();
  const path = url.pathname + url.search;
  const isChat = path.startsWith("/chat/");
  if (isChat && path === here) return toEnd();
  go(path, true, isChat && unreadIn(link) < 40 ? panes.get(path) : undefined); // FIRST_UNREAD of web/views/chat.py
});
document.addEventListener("submit", (event) => {
  const form = /** @type {HTMLFormElement} */ (event.target);
  if (form.getAttribute("method") || form.hasAttribute("hx-ws:send")) return;
  const url = new URL(form.getAttribute("action") ?? "", location.href);
  event.preventDefault();
  const query = new URLSearchParams(/** @type {any} */ (new FormData(form))).toString();
  go(url.pathname + (query && `?${query}`));
});
addEventListener("popstate", () => {
  const path = location.pathname + location.search;
  if (path !== here) go(path, false, panes.get(path));
});
document.addEventListener("htmx:before:history:restore", (event) => event.preventDefault()); // Back is ours
document.addEventListener("htmx:after:history:update", () => {
  here = location.pathname + location.search;
});
