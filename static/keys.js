// For the keyboard: shortcuts, and typing that goes to the composer wherever one is.
const isField = (/** @type {Element | null} */ it) => it?.matches("input, textarea, select, [contenteditable]");

function neighbour(/** @type {number} */ step) {
  const chats = /** @type {HTMLAnchorElement[]} */ ($$("#chats a"));
  const at = chats.findIndex((it) => it.ariaCurrent);
  chats[at < 0 ? 0 : at + step]?.click();
}
document.addEventListener("keydown", (event) => {
  const { key, altKey, ctrlKey, metaKey } = event;
  const dialog = /** @type {HTMLDialogElement | null} */ ($("#keys"));
  if ((ctrlKey || metaKey) && key === "k") go("/users");
  else if (altKey && key === "ArrowUp") neighbour(-1);
  else if (altKey && key === "ArrowDown") neighbour(1);
  else if (key === "Escape" && !dialog?.open && !event.isComposing) leave();
  else if (key === "?" && !isField(document.activeElement)) dialog?.showModal();
  else if (key.length > 1 || key === " " || altKey || ctrlKey || metaKey || isField(document.activeElement)) return;
  else return dialog?.open || $("#body")?.focus(); // where the key then goes
  event.preventDefault();
});
function leave() {
  const menu = $(".menu[open]");
  if (isSelecting()) return endSelection();
  if (giveUp()) return;
  if (menu) menu.removeAttribute("open");
  else if (!isField(document.activeElement) || document.activeElement === $("#body")) here === "/" || go("/");
}
document.addEventListener("click", (event) => {
  const target = /** @type {Element} */ (event.target);
  if (!target.closest(".menu")) $(".menu[open]")?.removeAttribute("open");
  if (target.closest(".skip")) {
    event.preventDefault();
    ($("#body") ?? $("#pane"))?.focus();
  }
});
// A file that is dropped beside its place would take the page away.
for (const it of ["dragover", "drop"]) document.addEventListener(it, (event) => event.preventDefault());
