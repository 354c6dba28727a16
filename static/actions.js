// What one does to a message: react, answer, edit, remove. Its tools stand beside the message that is pointed at or in focus;
// the composer takes answers and edits.
let editing = ""; // the seq of the message that is in the composer
let before = ""; // what was in the composer before
let seen = ""; // the version of that message that one looked at
const tools = () => $("#tools");
const messageOf = (/** @type {EventTarget | null} */ it) =>
  /** @type {Element | null} */ (it)?.closest(".message[data-seq]:not([data-removed])");

/** What its author typed. */
function sourceOf(/** @type {Element} */ message) {
  const it = $(".message-body", message);
  return it?.dataset.source ?? it?.textContent ?? "";
}

document.addEventListener("pointerover", ({ target, pointerType }) => {
  if (pointerType === "mouse") offer(messageOf(target));
});
document.addEventListener("focusin", ({ target }) => offer(messageOf(target)));
let chosen = /** @type {HTMLElement | null} */ (null); // the message whose menu is open
function offer(/** @type {Maybe} */ message) {
  const it = tools();
  if (!it || !message || message.contains(it)) return;
  for (const copying of $$("#more [data-copies]")) copying.hidden = !navigator.clipboard; // there is none on plain http
  for (const own of $$("#tools [data-own], #more [data-own]")) own.hidden = message.dataset.mine === undefined;
  $(".bubble", message)?.append(it);
  it.hidden = false;
}

/** Tells the server of a change of the message. Returns whether it was told. */
function change(/** @type {string} */ action, /** @type {string} */ seq, emoji = "") {
  const form = $("#change");
  if (!form || body.dataset.socket !== "open") return false;
  form.act.value = action;
  form.seq.value = seq;
  form.version.value = action === "edit" ? seen : "";
  form.emoji.value = emoji;
  return htmx.trigger(form, "knock:report");
}

document.addEventListener("click", (event) => {
  const target = /** @type {Element} */ (event.target);
  const button = target.closest("button");
  const message = /** @type {HTMLElement | null} */ (target.closest("#more") ? chosen : messageOf(target));
  if (target.closest("#about button")) return giveUp();
  if (button?.closest("#selection")) return endSelection(button.value === "copy");
  if (message && isSelecting() && !button) {
    event.preventDefault(); // also of a link
    return select(message);
  }
  if (target.closest("#more")) $("#more")?.hidePopover();
  else chosen = message;
  if (button?.closest("#removal") && button.value) return change("remove", button.value);
  if (isTouch.matches && !target.closest("a, button")) message ? offer(message) : tools()?.setAttribute("hidden", "");
  if (!button || !message) return;
  const seq = message.dataset.seq ?? "";
  if (button.dataset.emoji) change("react", seq, button.dataset.emoji);
  else if (button.value === "reply") reply(message);
  else if (button.value === "edit") edit(message);
  else if (button.value === "unread") change("unread", seq) && go("/");
  else if (button.value === "star") change("star", seq);
  else if (button.value === "forward") go(`/chat/${to()}/messages/${seq}`);
  else if (button.value === "link") navigator.clipboard?.writeText(`${location.origin}/chat/${to()}?around=${seq}`);
  else if (button.value === "select") select(message);
  else if (button.value === "remove") {
    const confirm = $("#removal button[value]");
    if (confirm) confirm.value = seq;
    $("#removal")?.showModal();
  }
});

// Several messages are selected by clicks, and copied as text.
const selected = () => $$(".messages > [data-selected]");
const isSelecting = () => selected().length > 0;
function select(/** @type {Element} */ message) {
  message.toggleAttribute("data-selected");
  const bar = $("#selection");
  if (!bar) return;
  bar.hidden = !isSelecting();
  $(".count", bar)?.replaceChildren(String(selected().length));
}
function endSelection(isCopied = false) {
  const lines = selected().map((it) => `${it.dataset.author}, ${$("time", it)?.title}\n${sourceOf(it)}`);
  if (isCopied) navigator.clipboard?.writeText(lines.join("\n\n"));
  for (const it of selected()) select(it);
}
/** Shows what one keeps of this chat, as its entry says: the starred messages, and the menu of a chat that is pinned. */
function showKept() {
  const entry = $("#chats li:has([aria-current])");
  for (const it of ["data-pinned", "data-muted"]) if (entry) $(".menu")?.toggleAttribute(it, entry.hasAttribute(it));
  const starred = new Set((entry?.dataset.starred ?? "").split(" "));
  for (const row of $$(".messages > [data-starred]"))
    if (!starred.has(row.dataset.seq ?? "")) delete row.dataset.starred;
  for (const seq of starred) if (seq) $(`.messages > [data-seq="${seq}"]`)?.setAttribute("data-starred", "");
}

// On a touch screen, a message that is drawn aside is answered.
let touched = /** @type {Touch | null} */ (null);
document.addEventListener("touchstart", ({ touches }) => {
  touched = touches.length === 1 ? touches[0] : null;
});
document.addEventListener("touchend", ({ target, changedTouches: [end] }) => {
  const message = messageOf(target);
  const [across, down] = touched ? [end.clientX - touched.clientX, end.clientY - touched.clientY] : [0, 0];
  if (message && Math.abs(across) > 64 && Math.abs(down) < 32) reply(message);
});

function about(/** @type {Element} */ message, /** @type {"edit" | "reply"} */ what) {
  const it = $("#about");
  if (!it) return;
  it.dataset.what = what;
  $("q", it)?.replaceChildren(sourceOf(message).slice(0, 120));
  it.hidden = false;
  $("#body")?.focus();
}
function reply(/** @type {Element} */ message) {
  giveUp();
  const field = $("#composer [name=reply_to]");
  if (field) field.value = message.dataset.seq ?? "";
  about(message, "reply");
}
function edit(/** @type {Element} */ message) {
  giveUp();
  const [field, form] = [$("#body"), $("#change")];
  if (!field || !form) return;
  form.body.value = "";
  saveDraft();
  before = field.value;
  editing = message.dataset.seq ?? "";
  seen = message.dataset.version ?? "";
  field.value = sourceOf(message);
  about(message, "edit");
}
/** Back to a new message. Returns whether there was an answer or an edit to give up. */
function giveUp() {
  const it = $("#about");
  if (!it || it.hidden) return false;
  it.hidden = true;
  const field = $("#composer [name=reply_to]");
  if (field) field.value = "";
  if (editing) {
    editing = "";
    keepDraft(before);
  }
  return true;
}

// An edit is sent like a message. It stays in the composer until it is seen to be done, so that a refusal loses nothing.
document.addEventListener(
  "submit",
  (event) => {
    if (event.target !== $("#composer") || !editing) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const form = $("#change");
    const text = $("#body")?.value ?? "";
    if (!form || !text.trim()) return;
    form.body.value = text;
    $("#refusals")?.replaceChildren();
    change("edit", editing);
  },
  true,
);
/** Ends the edit if this is what came of it, or if the message is gone. */
function isEdited(/** @type {Element} */ message) {
  if (message.dataset.seq !== editing || message.dataset.mine === undefined) return;
  const isDone = $("#change")?.body.value === sourceOf(message);
  if (isDone || message.dataset.removed !== undefined) giveUp();
}
// Who was told of a newer text may replace it all the same.
document.addEventListener("htmx:after:swap", () => {
  if (editing && $("#refusals .send-refused")) seen = $(`.messages > [data-seq="${editing}"]`)?.dataset.version ?? seen;
});
document.addEventListener("keydown", (event) => {
  const { key, target, altKey, ctrlKey, metaKey } = event;
  if (altKey || ctrlKey || metaKey) return;
  const focused = messageOf(document.activeElement);
  if (key === "ArrowUp" && target === $("#body") && target && !$("#body")?.value) {
    const mine = $$(".messages > [data-mine]:not([data-removed])").pop();
    if (!mine || $("#last")?.value) return; // there may be newer ones
    edit(mine);
  } else if (key === "r" && focused) reply(focused);
  else return;
  event.preventDefault();
  event.stopImmediatePropagation();
});
