// The service worker: shows what comes by Web Push (Safari does without it), and leads to what a notice is about.
const worker = /** @type {any} */ (self); // TypeScript knows either pages or workers

worker.addEventListener("push", (/** @type {any} */ event) => {
  const { title, ...notice } = event.data.json().notification;
  const more = { data: { address: notice.navigate }, icon: "/static/icon-192.png", renotify: true };
  event.waitUntil(worker.registration.showNotification(title, { ...notice, ...more }));
});
worker.addEventListener("notificationclick", (/** @type {any} */ event) => {
  event.notification.close();
  event.waitUntil(lead(event.notification.data.address));
});
/** Opens the address in a page of Knock that is there, or else in a new one. */
async function lead(/** @type {string} */ address) {
  const pages = await worker.clients.matchAll({ type: "window", includeUncontrolled: true });
  const page = pages.find((/** @type {any} */ it) => it.focused) ?? pages[0];
  if (!page) return worker.clients.openWindow(address);
  page.postMessage(new URL(address, worker.location).pathname);
  return page.focus();
}
