// In the frame of the emoji picker: tells the page what was picked, or by an empty string that nothing was.
const picker = document.querySelector("emoji-picker");
const tell = (/** @type {string} */ emoji) => parent.postMessage(emoji, location.origin);
document.addEventListener("emoji-click", (event) => tell(/** @type {CustomEvent} */ (event).detail.unicode));
document.addEventListener("keydown", ({ key }) => key === "Escape" && tell(""));
if (picker?.dataset.words)
  import(picker.dataset.words).then(({ default: words }) => Object.assign(picker, { i18n: words }));

export {};
