// Notices of this device: a note from the system and a soft knock, when no tab of Knock is in view.
const NOTICES = "knock-notices"; // who wants them here
const mayNotify = () => "Notification" in window && "locks" in navigator && "serviceWorker" in navigator;
const isOn = () => mayNotify() && Notification.permission === "granted" && localStorage.getItem(NOTICES) === me;

// The tab that is in view holds a lock, so that the others know of it.
let look = new AbortController();
function watch() {
  look.abort();
  if (document.hidden || !mayNotify()) return;
  look = new AbortController();
  const hidden = new Promise((then) => look.signal.addEventListener("abort", then));
  navigator.locks.request("knock-in-view", { mode: "shared" }, () => hidden);
}
document.addEventListener("visibilitychange", watch);
watch();

/** Notices come and go one after the other in all tabs, so that none comes after its chat was read. */
const inTurn = (/** @type {() => Promise<void>} */ work) => navigator.locks.request("knock-notice", work);

/** Tells of what is new in a chat. Of several hidden tabs the first one does, and the others find its notice. */
function notice(/** @type {Element} */ entry) {
  if (!document.hidden || !isOn() || entry.dataset.muted) return;
  const data = { address: $("a", entry)?.getAttribute("href") ?? "/", unread: unreadIn(entry) };
  inTurn(async () => {
    const { held } = await navigator.locks.query();
    if (held?.some((it) => it.name === "knock-in-view")) return;
    const { registration } = await device();
    const tag = entry.id;
    const [told] = await registration.getNotifications({ tag });
    if (told?.data.unread >= data.unread) return;
    const [title, text] = [$(".name", entry)?.textContent ?? "", $(".preview", entry)?.textContent ?? ""];
    await registration.showNotification(title, { body: text, tag, data, silent: true });
    knock();
  });
}
/** Takes away the notice of a chat that has been read. */
function clearNotice(/** @type {Element} */ entry) {
  if (!isOn()) return;
  inTurn(async () => {
    for (const it of await (await device()).registration.getNotifications({ tag: entry.id })) it.close();
  });
}

/** The worker, which shows notices, and how this device is told of what comes while no page is open. */
async function device() {
  const registration = await navigator.serviceWorker.register("/static/worker.js", { scope: "/" });
  return { registration, subscription: await registration.pushManager?.getSubscription() };
}
navigator.serviceWorker?.addEventListener("message", ({ data }) => go(data));

/** Tells the server where this device is told. A browser without a push service shows notices while a page is open. */
async function subscribe(/** @type {string} */ applicationServerKey) {
  const { registration, subscription } = await device();
  const key = btoa(String.fromCharCode(...new Uint8Array(subscription?.options.applicationServerKey ?? [])));
  const isOurs = key.replaceAll("+", "-").replaceAll("/", "_").replace(/=*$/, "") === applicationServerKey;
  if (!isOurs) await subscription?.unsubscribe();
  const options = { userVisibleOnly: true, applicationServerKey };
  await navigator.serviceWorker.ready;
  const it = isOurs ? subscription : await registration.pushManager?.subscribe(options).catch(() => null);
  const { endpoint = "", keys } = it?.toJSON() ?? {};
  if (it) await fetch("/settings/devices", { method: "POST", body: new URLSearchParams({ endpoint, ...keys }) });
}
async function unsubscribe() {
  const { subscription } = await device();
  const sent = new URLSearchParams({ endpoint: subscription?.endpoint ?? "" });
  if (subscription) await fetch("/settings/devices/remove", { method: "POST", body: sent });
  await subscription?.unsubscribe();
}

let knockedAt = 0;
/** Two soft knocks on wood, at most once a second. */
function knock() {
  if (Date.now() - knockedAt < 1000) return;
  knockedAt = Date.now();
  const audio = new AudioContext();
  for (const at of [0, 0.18]) {
    const [tone, loudness] = [audio.createOscillator(), audio.createGain()];
    const start = audio.currentTime + at;
    tone.frequency.setValueAtTime(190, start);
    tone.frequency.exponentialRampToValueAtTime(70, start + 0.1);
    loudness.gain.setValueAtTime(0.25, start);
    loudness.gain.exponentialRampToValueAtTime(0.001, start + 0.12);
    tone.connect(loudness).connect(audio.destination);
    tone.start(start);
    tone.stop(start + 0.13);
  }
  setTimeout(() => audio.close(), 1000);
}

/** The card of the settings: what this device does, and the button that changes it. */
function showNotices() {
  const card = $("#device");
  if (!card || !mayNotify()) return;
  card.hidden = false;
  card.dataset.notices = isOn() ? "on" : Notification.permission === "denied" ? "denied" : "off";
  if (!isOn() || !card.dataset.key) return;
  subscribe(card.dataset.key); // again, since it ends with other sessions, and whenever the key is another one
  delete card.dataset.key;
}
document.addEventListener("click", async ({ target }) => {
  const button = /** @type {HTMLButtonElement | null} */ (/** @type {Element} */ (target).closest("#device button"));
  if (!button) return;
  if (button.value === "on") await Notification.requestPermission();
  localStorage.setItem(NOTICES, button.value === "on" ? (me ?? "") : ""); // at once: nothing is to be shown after "no"
  if (isOn()) knock();
  else await unsubscribe();
  showNotices();
});
