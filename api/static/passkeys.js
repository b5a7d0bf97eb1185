// Passkeys: a form with data-passkey="get" or "create" asks the browser, puts its answer into the form, and sends it.
// The options come with the page (data-options), so nothing is fetched; the server says in the next page how it went.
"use strict";

function toBytes(text) {
  const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(plain, (letter) => letter.charCodeAt(0));
}

function toText(buffer) {
  const plain = String.fromCharCode(...new Uint8Array(buffer));
  return btoa(plain).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function decoded(options) {
  const ids = (list) => (list ?? []).map((one) => ({ ...one, id: toBytes(one.id) }));
  const made = { ...options, challenge: toBytes(options.challenge) };
  if (options.user) made.user = { ...options.user, id: toBytes(options.user.id) };
  made.excludeCredentials = ids(options.excludeCredentials);
  made.allowCredentials = ids(options.allowCredentials);
  return made;
}

function encoded(credential) {
  const { response } = credential, answer = {};
  for (const part of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
    if (response[part]) answer[part] = toText(response[part]);
  }
  if (response.getTransports) answer.transports = response.getTransports();
  return JSON.stringify({
    id: credential.id, rawId: toText(credential.rawId), type: credential.type, response: answer, clientExtensionResults: {},
  });
}

const TOLD = {
  NotAllowedError: "No passkey was used: it was cancelled, or took too long.",
  InvalidStateError: "This device or key is registered already.",
  NotSupportedError: "This device or key knows none of the algorithms that are asked for.",
  SecurityError: "This address is not the one that passkeys are made for here.",
};

async function fill(form) {
  const publicKey = decoded(JSON.parse(form.dataset.options));
  const credential = form.dataset.passkey === "create"
    ? await navigator.credentials.create({ publicKey })
    : await navigator.credentials.get({ publicKey });
  form.querySelector("[data-passkey-answer]").value = encoded(credential);
}

for (const form of document.querySelectorAll("form[data-passkey]")) {
  if (!window.PublicKeyCredential) continue;
  form.hidden = false;
  const button = form.querySelector("button"), status = form.querySelector("[data-passkey-status]");
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    button.disabled = true;
    status.textContent = "Follow your browser.";
    try {
      await fill(form);
      form.submit();
    } catch (error) {
      status.textContent = TOLD[error.name] ?? `The passkey was not used: ${error.message}`;
      button.disabled = false;
    }
  });
}
