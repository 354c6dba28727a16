// Drafts: kept in this browser at each key, and by the server a moment later, so that other devices have them. What comes
// from another device never replaces what is typed here: both are kept.
let known = new Set([""]); // the server's drafts that this page has written, or taken into its field
let saved = ""; // what was sent last, and in place of what
let saving = 0;
const draftKey = () => `knock-draft-${me}-${to()}`;
const serversDraft = () => $("#chats [aria-current]")?.parentElement?.dataset.draft ?? "";
const both = (/** @type {string[]} */ ...texts) => texts.filter(Boolean).join("\n");

/** Puts a text into the field, and keeps it here until the server has it. `base` is the server's draft that is in it. */
function keepDraft(/** @type {string} */ text, base = $("#body")?.dataset.base ?? "") {
  const field = $("#body");
  if (!field || editing) return;
  if (field.value !== text) field.value = text;
  field.dataset.base = base;
  if (text === base) localStorage.removeItem(draftKey());
  else localStorage.setItem(draftKey(), JSON.stringify({ text, base }));
  clearTimeout(saving);
  saving = setTimeout(saveDraft, 700);
}
function saveDraft() {
  const [text, theirs] = [$("#body")?.value ?? "", serversDraft()];
  const form = $("#draft");
  const isKnown = known.has(theirs) && text !== theirs && saved !== `${text}\0${theirs}`;
  if (!form || editing || !isKnown || body.dataset.socket !== "open") return;
  saved = `${text}\0${theirs}`;
  known.add(text);
  form.body.value = text;
  form.base.value = theirs;
  htmx.trigger(form, "knock:report");
}
/** After something arrived, or with `isLeft`: nobody types here any more. */
function syncDraft(isLeft = false) {
  const [field, theirs] = [$("#body"), serversDraft()];
  if (!field || editing || (!theirs && !field.value)) return;
  if (field.value === theirs) known.add(theirs);
  if (known.has(theirs)) return keepDraft(field.value, theirs);
  if (!isLeft && (field.value || document.activeElement === field)) return;
  known.add(theirs);
  keepDraft(both(theirs, field.value), theirs);
}
/** In a pane that is new, the field holds the server's draft. */
function openDraft(/** @type {boolean} */ isNew) {
  const field = $("#body");
  if (!field) return;
  const theirs = (isNew ? field.value : field.dataset.base) ?? "";
  const kept = /** @type {{ text: string, base: string } | null} */ (
    JSON.parse(localStorage.getItem(draftKey()) ?? "null")
  );
  saved = "";
  typingTold = 0;
  known = new Set([theirs]);
  if (!isNew) return;
  const isNews = kept && theirs && theirs !== kept.base && theirs !== kept.text;
  keepDraft(isNews ? both(theirs, kept.text) : (kept?.text ?? theirs), theirs);
}
let typingTold = 0;
function tellTyping() {
  const form = $("#typing");
  if (!form || !$("#body")?.value || body.dataset.socket !== "open" || Date.now() - typingTold < 3500) return;
  typingTold = Date.now();
  htmx.trigger(form, "knock:report");
}
document.addEventListener("input", ({ target }) => {
  const field = $("#body");
  if (!field || target !== field) return;
  keepDraft(field.value);
  tellTyping();
  $("#refusals [data-nonce]")?.remove(); // it was about what is being changed now
  const left = 4000 - field.value.length; // BODY_LENGTH in web/chat/messages.py
  $("#left")?.replaceChildren(left < 400 ? String(left) : "");
});
document.addEventListener("focusout", ({ target }) => target === $("#body") && syncDraft(true));
