// What the page does beyond HTML: it hears from the server that something changed, and has htmx
// fetch the view again. Keys: `/` to the filter, `g` and a letter to a view, `?` says them.
"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  // An open <details> and what a person typed are the person's, not the server's.
  Idiomorph.defaults.ignoreActiveValue = true;
  Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, node) =>
    !(name === "open" && node.nodeName === "DETAILS") && !node.closest?.("[data-keep]");
  Idiomorph.defaults.callbacks.beforeNodeMorphed = (old) => !old.dataset?.keep;

  const live = document.getElementById("live");
  const say = (is, text) => { live.dataset.live = is; live.textContent = text; };
  const changed = () => document.body.dispatchEvent(new CustomEvent("fleet"));

  if (live && live.dataset.events) {
    let source = null;
    const open = () => {
      source = new EventSource(live.dataset.events);
      source.onopen = () => { say("yes", "live"); changed(); };
      // The browser tries again by itself.
      source.onerror = () => say("no", "no connection");
      for (const name of live.dataset.names.split(" ")) source.addEventListener(name, changed);
    };
    const close = () => { source?.close(); source = null; };
    // A page that nobody sees asks for nothing.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) close(); else if (!source) open();
    });
    addEventListener("pagehide", close);
    if (!document.hidden) open();
  }

  const places = { o: "/", r: "/rollouts", d: "/devices", m: "/models", f: "/drift", a: "/audit", k: "/keys", s: "/system" };
  let going = 0;
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, select, textarea");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "/") {
      const filter = document.querySelector("[data-filter]");
      if (filter) { event.preventDefault(); filter.focus(); filter.select(); }
    } else if (event.key === "g") {
      going = event.timeStamp;
    } else if (event.timeStamp - going < 1500 && places[event.key]) {
      location.href = places[event.key];
    }
  });

  // What cannot be undone is asked about.
  document.addEventListener("submit", (event) => {
    const ask = event.submitter?.dataset.ask ?? event.target.dataset.ask;
    if (ask && !confirm(ask)) event.preventDefault();
  });
})();
