// Drafts: kept in this browser at each key, and by the server a moment later, so that other devices have them. What comes
// from another device never replaces what is typed here: both are kept.
let known = new Set([""]); // the server's drafts that this page has written, or taken into its field
let saved = ""; // what was sent last, and in place of what
let saving = 0;
const draftKey = () => `knock-draft-${me}-${to()}`;
const serversDraft = () => $("#chats [aria-current]")?.parentElement?.dataset.draft ?? "";
const keptDraft = () =>
  /** @type {{ text: string, base: string } | null} */ (JSON.parse(localStorage.getItem(draftKey()) ?? "null"));

function keepDraft(/** @type {string} */ text, base = keptDraft()?.base ?? "") {
  const field = $("#body");
  if (field && field.value !== text) field.value = text;
  localStorage.setItem(draftKey(), JSON.stringify({ text, base }));
  clearTimeout(saving);
  saving = setTimeout(saveDraft, 700);
}
function saveDraft() {
  const [body, base] = /** @type {HTMLTextAreaElement[]} */ ($$("#draft textarea"));
  const [text, theirs] = [$("#body")?.value ?? "", serversDraft()];
  if (
    !body?.form ||
    document.body.dataset.socket !== "open" ||
    !known.has(theirs) ||
    text === theirs ||
    saved === `${text}\0${theirs}`
  )
    return;
  saved = `${text}\0${theirs}`;
  known.add(text);
  body.value = text;
  base.value = theirs;
  htmx.trigger(body.form, "knock:report");
}
/** After something arrived, or with `isLeft`: nobody types here any more. */
function syncDraft(isLeft = false) {
  const [field, theirs] = [$("#body"), serversDraft()];
  if (!field || (!theirs && !field.value)) return;
  if (field.value === theirs) known.add(theirs);
  if (known.has(theirs)) return keepDraft(field.value, theirs);
  if (!isLeft && (field.value || document.activeElement === field)) return;
  known.add(theirs);
  keepDraft([theirs, field.value].filter(Boolean).join("\n"), theirs);
}
/** In a pane that is new, the field holds the server's draft. */
function openDraft(/** @type {boolean} */ isNew) {
  const [field, kept] = [$("#body"), keptDraft()];
  const theirs = (isNew ? field?.value : kept?.base) ?? "";
  saved = "";
  known = new Set([theirs]);
  if (!field || !isNew || !kept) return;
  const { text, base } = kept;
  const isNews = theirs !== base && theirs !== text && theirs;
  if (text === base) keepDraft(theirs, theirs);
  else keepDraft(isNews ? [theirs, text].filter(Boolean).join("\n") : text, theirs);
}
document.addEventListener("input", ({ target }) => {
  const field = $("#body");
  if (!field || target !== field) return;
  keepDraft(field.value);
  $("#refusals [data-nonce]")?.remove(); // it was about what is being changed now
  const left = 4000 - field.value.length; // BODY_LENGTH in web/chat/messages.py
  $("#left")?.replaceChildren(left < 400 ? String(left) : "");
});
document.addEventListener("focusout", ({ target }) => target === $("#body") && syncDraft(true));
