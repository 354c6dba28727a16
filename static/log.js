// The window onto a chat's history: where it opens, what is new in it, how far one has read, and which messages it holds.
const HELD = 300;
let below = 0; // messages that arrived out of sight
let away = false; // this pane comes back, and has not caught up yet
let anchor = /** @type {{ row: Element, top: number } | null} */ (null);
const rows = () => $(".messages")?.children ?? document.createElement("ol").children;

function isAtEnd() {
  const log = $(".chat > .scroll");
  return Boolean(log && !$("#last")?.value && log.scrollTop > -80);
}
function toEnd() {
  if ($("#last")?.value) go(`${location.pathname}?end=1`);
  else $(".chat > .scroll")?.scrollTo(0, 0);
}

/** The place of the first message whose lower edge is below that height. */
function placeAt(/** @type {number} */ height) {
  const all = rows();
  let low = 0;
  for (let high = all.length; low < high; ) {
    const middle = (low + high) >> 1;
    if (all[middle].getBoundingClientRect().bottom > height) high = middle;
    else low = middle + 1;
  }
  return low;
}

// What is in view stays where it is while the page changes, unless that is the end. Not every browser does it by itself.
function hold() {
  const log = $(".chat > .scroll");
  const row = log && !isAtEnd() ? rows()[placeAt(log.getBoundingClientRect().top)] : null;
  anchor = row ? { row, top: row.getBoundingClientRect().top } : null;
}
function release(/** @type {boolean} */ hasCaughtUp) {
  trim();
  const row = anchor?.row.isConnected ? anchor.row : anchor && document.getElementById(anchor.row.id);
  if (row && anchor) $(".chat > .scroll")?.scrollBy(0, row.getBoundingClientRect().top - anchor.top);
  anchor = null;
  if (!hasCaughtUp || !away) return;
  away = false;
  if (missed) showLine();
}

/** Far more messages than anybody sees at once make a page slow: those that are far away go, and are loaded again. */
function trim() {
  const log = $(".chat > .scroll");
  const extra = rows().length - HELD;
  if (!log || extra <= 0) return;
  const isNearEnd = placeAt(log.getBoundingClientRect().top) > rows().length / 2;
  for (let count = extra + 50; count; count--) rows()[isNearEnd ? 0 : rows().length - 1].remove();
  if (isNearEnd) rest("older", seq(rows()[0]));
  else rest("newer", seq(rows()[rows().length - 1]));
}
function rest(/** @type {"older" | "newer"} */ side, /** @type {number} */ from) {
  const bound = $(side === "older" ? "#first" : "#last");
  const more = /** @type {Element} */ ($(`template#${side}`)?.content.firstElementChild?.cloneNode(true));
  const link = $("a", more);
  const path = `${location.pathname}/messages?${side === "older" ? "before" : "since"}=${from}`;
  for (const name of ["href", "hx-get"]) link?.setAttribute(name, path);
  if (bound) bound.value = String(from);
  $(`.history > .${side}`)?.remove();
  if (side === "older") $(".history")?.prepend(more);
  else $(".messages")?.after(more);
  htmx.process(more);
}

// A line above what is new. It stays while one reads, and is drawn anew for what comes while nobody looks.
function unmark() {
  for (const it of $$("[data-new]", $(".messages") ?? document)) delete it.dataset.new;
}
function mark(/** @type {Element | undefined} */ row, /** @type {number} */ count) {
  unmark();
  if (row) row.dataset.new = $(".chat > .scroll")?.dataset.line?.replace("{}", String(count));
}
let missed = 0; // since nobody looks
function arrive(/** @type {Element} */ message) {
  const { author, edited, removed } = message.dataset;
  const isNew = author !== me && edited === undefined && removed === undefined;
  if (!isNew || seq(message) <= (seq(rows()[rows().length - 1]) || 0)) return;
  if (!isAtEnd() || document.hidden) below += 1;
  if (!document.hidden && !away) return;
  missed += 1;
  if (missed === 1) mark(message, 1);
  else for (const it of $$(".messages > [data-new]")) mark(it, missed);
}
document.addEventListener("visibilitychange", () => {
  if (document.hidden) missed = 0;
});

function showLine() {
  const log = $(".chat > .scroll");
  const line = $(".messages > [data-new]");
  if (log && line && line.getBoundingClientRect().top < log.getBoundingClientRect().top) line.scrollIntoView();
}
function openLog(/** @type {boolean} */ isNew) {
  const log = $(".chat > .scroll");
  below = 0;
  missed = 0;
  if (!log) return;
  if (!isNew) {
    $("#read")?.reset(); // it may have been marked as unread
    delete log.dataset.read;
    return unmark(); // where one left it
  }
  const { read, unread, around } = log.dataset;
  const all = Array.from(rows());
  if (unread)
    mark(
      all.find((it) => seq(it) > Number(read) && it.dataset.mine === undefined),
      Number(unread),
    );
  delete log.dataset.unread;
  delete log.dataset.around;
  const found = around && all.find((it) => seq(it) >= Number(around));
  if (!found) return showLine();
  found.scrollIntoView({ block: "center" });
  found.classList.add("found");
}

/** Tells the server that this tab has the last message of that chat in the list. */
function deliver(/** @type {Element} */ entry) {
  const form = $("#delivered");
  if (!form || body.dataset.socket !== "open" || ($("#pane[data-end]") && $("[aria-current]", entry))) return;
  form.to.value = $("a", entry)?.getAttribute("href")?.slice("/chat/".length) ?? "";
  form.delivered.value = entry.dataset.undelivered ?? "";
  htmx.trigger(form, "knock:report");
}

/** Shows how far the others got: on one's own messages, and in words if the last one is such. */
function showReading() {
  const it = $(".reading");
  const entry = $("#chats li:has([aria-current])");
  if (!it || !entry) return;
  const { delivered = "", read = "", state = "", toldAt } = entry.dataset;
  Object.assign(it.dataset, { delivered, read });
  for (const row of $$(".messages > [data-mine]")) {
    const reached = seq(row) <= Number(read) ? "read" : seq(row) <= Number(delivered) ? "delivered" : "sent";
    if (row.dataset.state !== reached) row.dataset.state = reached;
  }
  const words = $("[data-say]", it);
  if (!words) return;
  $("time", it)?.remove();
  Object.assign(words.dataset, { say: state, name: toldAt ? timeOf(new Date(toldAt)) : "" });
  say(it);
}

/** `shown` is the version of what the page holds. */
function follow(/** @type {number} */ shown) {
  const log = $(".chat > .scroll");
  const button = $("#to-end");
  const isEnd = isAtEnd();
  if (!log || !button) return;
  if (isEnd && !document.hidden) below = 0;
  $("#pane")?.toggleAttribute("data-end", isEnd && !document.hidden);
  button.hidden = isEnd;
  $(".count", button)?.replaceChildren(below ? String(below) : "");
  if (document.hidden || away) return;
  if (isEnd) return report("#read [name=version]", shown);
  const seen = seq(rows()[placeAt(log.getBoundingClientRect().bottom) - 1]);
  if (seen > Number(log.dataset.read ?? 0) && report("#read [name=seq]", seen)) log.dataset.read = String(seen);
}

// While one scrolls, the day of the topmost message floats above the log.
let fading = 0;
document.addEventListener(
  "scroll",
  ({ target }) => {
    const [log, day] = [$(".chat > .scroll"), $("#day")];
    if (!log || !day || target !== log) return;
    const { top } = log.getBoundingClientRect();
    const first = rows()[placeAt(top)];
    const isNamed = first?.dataset.day && first.getBoundingClientRect().top >= top; // it says so itself
    day.textContent = first?.dataset.date && !isNamed ? dayOf(first.dataset.date) : "";
    clearTimeout(fading);
    fading = setTimeout(() => day.replaceChildren(), 1500);
  },
  true,
);
document.addEventListener(
  "click",
  (event) => {
    if (!(/** @type {Element} */ (event.target).closest("#to-end")) || $("#last")?.value) return;
    event.preventDefault();
    toEnd();
  },
  true,
);
