// Security keys: hands the page's question to the browser and its answer to the form. Decides nothing; the machine checks.
// Without scripts the page says so and offers a code instead.
"use strict";

(() => {
  const bytes = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const text = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const named = (list) => (list || []).map((item) => ({ ...item, id: bytes(item.id) }));

  const says = {
    AbortError: "The question was withdrawn. Try again.",
    InvalidStateError: "This key is already enrolled.",
    NotAllowedError: "No key answered, or it was cancelled. Try again, or use a code.",
    NotSupportedError: "This key cannot do what is needed here.",
    SecurityError: "The browser does not allow keys under this address. Open the console by its name, over HTTPS.",
  };

  const create = async (options) => {
    const made = await navigator.credentials.create({
      publicKey: {
        ...options,
        challenge: bytes(options.challenge),
        user: { ...options.user, id: bytes(options.user.id) },
        excludeCredentials: named(options.excludeCredentials),
      },
    });
    return { credential: made, response: {
      attestationObject: text(made.response.attestationObject),
      transports: made.response.getTransports ? made.response.getTransports() : [],
    } };
  };

  const get = async (options) => {
    const shown = await navigator.credentials.get({
      publicKey: { ...options, challenge: bytes(options.challenge), allowCredentials: named(options.allowCredentials) },
    });
    return { credential: shown, response: {
      authenticatorData: text(shown.response.authenticatorData),
      signature: text(shown.response.signature),
      userHandle: shown.response.userHandle ? text(shown.response.userHandle) : null,
    } };
  };

  const ask = async (form) => {
    const problem = form.querySelector("[data-webauthn-error]");
    const button = form.querySelector("button[type=submit]");
    problem.hidden = true;
    button.disabled = true;
    try {
      const options = JSON.parse(form.dataset.options);
      const { credential, response } = await (form.dataset.webauthn === "create" ? create(options) : get(options));
      form.elements.answer.value = JSON.stringify({
        id: credential.id,
        rawId: text(credential.rawId),
        type: credential.type,
        response: { ...response, clientDataJSON: text(credential.response.clientDataJSON) },
      });
      form.submit();
    } catch (error) {
      problem.textContent = says[error.name] || "The key could not be used. Try again, or use a code.";
      problem.hidden = false;
      button.disabled = false;
    }
  };

  document.addEventListener("DOMContentLoaded", () => {
    for (const form of document.querySelectorAll("form[data-webauthn]")) {
      const able = Boolean(window.PublicKeyCredential);
      const note = form.querySelector("[data-without-script]");
      note.hidden = able;
      if (!able) {
        note.textContent = "This browser cannot use security keys here. They need HTTPS and the console's name.";
        continue;
      }
      form.querySelector("button[type=submit]").hidden = false;
      form.addEventListener("submit", (event) => {
        event.preventDefault();
        if (form.reportValidity()) ask(form);
      });
    }
  });
})();
