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
  Idiomorph.defaults.callbacks.beforeNodeMorphed = (old) => !old.hasAttribute?.("data-keep");

  const live = document.getElementById("live");
  const say = (is, text) => { live.dataset.live = is; live.textContent = text; };
  const changed = () => document.body.dispatchEvent(new CustomEvent("fleet"));

  if (live) {
    let source = null, timer = null;
    const open = () => {
      source = new EventSource(live.dataset.events);
      source.onopen = () => { say("yes", "live"); changed(); };
      source.onerror = () => {
        // While it is connecting the browser tries again by itself; refused, it is asked for.
        if (source.readyState !== EventSource.CLOSED) return say("no", "no connection");
        say("slow", "every 5 s");
        timer ??= setInterval(changed, 5000);
      };
      for (const name of live.dataset.names.split(" ")) source.addEventListener(name, changed);
    };
    const close = () => { source?.close(); clearInterval(timer); source = timer = null; };
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

  // A button is a request to the API: the same one that the command line makes.
  const said = document.getElementById("said");
  const complain = (text, mend) => {
    said.className = "notice bad";
    said.replaceChildren(...[text, mend].filter(Boolean).map((line) => {
      const p = document.createElement("p");
      p.textContent = line;
      return p;
    }));
  };
  const send = async (form) => {
    const csrf = document.querySelector("meta[name=csrf]")?.content;
    const { api, method = "POST", body = "null", then } = form.dataset;
    const headers = { "content-type": "application/json", ...(csrf && { "fleetway-csrf": csrf }) };
    let answer;
    try { answer = await fetch(api, { method, headers, body }); }
    catch { return complain("The controller does not answer.", "See whether it runs; it may have been done."); }
    const json = answer.status === 204 ? null : await answer.json().catch(() => null);
    if (!answer.ok) return complain(json?.error?.message ?? `The answer was ${answer.status}.`, json?.error?.mend);
    if (then) location.href = then.replace("{id}", json?.id ?? "");
    else { said.className = ""; said.replaceChildren(); changed(); }
  };
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.dataset.api) return;
    event.preventDefault();
    if (form.dataset.ask && !confirm(form.dataset.ask)) return;
    send(form);
  });
})();
