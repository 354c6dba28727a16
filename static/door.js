// On every page: a button that shows a password, and word to the server that scripts run here, and how long times are.
const { hour12 } = new Intl.DateTimeFormat(navigator.language, { timeStyle: "short" }).resolvedOptions();
const hours = hour12 ? "12" : "24";
document.documentElement.dataset.scripts = hours;
// biome-ignore lint/suspicious/noDocumentCookie: the server has to know with the first page, before any request of ours.
document.cookie = `scripts=${hours}; path=/; samesite=lax; max-age=31536000`;
document.addEventListener("click", (event) => {
  const button = /** @type {Element} */ (event.target).closest("button.show");
  const field = button?.parentElement?.querySelector("input");
  if (!button || !field) return;
  const isShown = field.type === "text";
  field.type = isShown ? "password" : "text";
  button.setAttribute("aria-pressed", String(!isShown));
  field.focus();
});
