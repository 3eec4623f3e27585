// The link that `fleetway web` prints carries a token behind the `#`, which no browser sends and no
// server logs. It goes into the form, and out of the address and the history.
"use strict";
(() => {
  const token = location.hash.slice(1);
  if (!token) return;
  history.replaceState(null, "", location.pathname);
  const form = document.forms[0];
  form.token.value = token;
  form.submit();
})();
