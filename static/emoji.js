// The emoji picker: a page of its own in a frame, loaded when it is first opened. What is picked goes into the composer, or
// to the message whose tools opened it.
const picker = () => $("#emoji");
let reactingTo = ""; // the seq of that message

document.addEventListener("click", ({ target }) => {
  const button = /** @type {Element} */ (target).closest("[popovertarget=emoji]");
  if (button) reactingTo = messageOf(button)?.dataset.seq ?? "";
});
document.addEventListener(
  "toggle",
  (event) => {
    const frame = $("#emoji iframe");
    if (!frame || event.target !== picker() || event.newState !== "open") return;
    if (!frame.src) frame.src = frame.dataset.src ?? "";
    frame.focus();
  },
  true,
);
addEventListener("message", ({ source, data }) => {
  const frame = $("#emoji iframe");
  if (!frame || source !== frame.contentWindow) return;
  picker()?.hidePopover();
  const [field, emoji] = [$("#body"), String(data)];
  if (!emoji || !field) return;
  if (reactingTo) return change("react", reactingTo, emoji);
  field.setRangeText(emoji, field.selectionStart, field.selectionEnd, "end");
  field.dispatchEvent(new InputEvent("input", { bubbles: true }));
  field.focus();
});
