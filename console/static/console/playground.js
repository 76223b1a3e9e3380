// The playground's answer as it comes. Whatever the model writes is put on the page as text: never as HTML, never as a link.
// Without this file the form is sent as any other and the page comes back with the whole answer.
"use strict";

(() => {
  const form = document.getElementById("playground");
  if (!form || !window.ReadableStream) return;
  const find = (id) => document.getElementById(id);
  const text = find("answer-text"), state = find("answer-state"), facts = find("answer-facts"), refused = find("answer-refused");
  const cancel = form.querySelector("[data-cancel]"), press = form.querySelector("[type=submit]");
  let running = null;

  const busy = (yes) => { cancel.hidden = !yes; press.disabled = yes; };
  const fact = (name, value) => { facts.querySelector(`[data-fact=${name}]`).textContent = value; };

  const refuse = (event) => {
    refused.querySelector("[data-says]").textContent = event.says;
    refused.querySelector("[data-code]").textContent = event.code;
    refused.querySelector("[data-request]").textContent = event.request_id ? `, request ${event.request_id}` : "";
    refused.hidden = false;
    state.textContent = text.textContent ? "Broken off: what stands here is not whole" : "Refused";
  };

  const take = (event) => {
    if (event.kind === "text") {
      text.append(event.text);
      state.textContent = "Answering";
    } else if (event.kind === "refused") {
      refuse(event);
    } else {
      fact("first_s", `${event.first_s.toFixed(2)} s`);
      fact("total_s", `${event.total_s.toFixed(2)} s`);
      fact("tokens", `${event.tokens_in} in, ${event.tokens_out} out${event.cut ? ", cut at the limit" : ""}`);
      fact("dropped", event.receipt.dropped_fields.join(", ") || "nothing");
      fact("model", `release ${event.receipt.release_digest.slice(0, 12)}, change ${event.receipt.change_id}`);
      fact("record", `${event.receipt.audit.shard}/${event.receipt.audit.seq}`);
      fact("request", event.receipt.request_id);
      facts.hidden = false;
      state.textContent = "Whole, and on record";
    }
  };

  const read = async (response) => {
    const lines = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "", ended = false;
    for (;;) {
      const { value, done } = await lines.read();
      if (done) break;
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const event = JSON.parse(part.slice("data: ".length));
        ended = ended || event.kind !== "text";
        take(event);
      }
    }
    if (!ended) refuse({ says: "The answer broke off.", code: "answer_cut", request_id: "" });
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (running) return;
    running = new AbortController();
    busy(true);
    text.textContent = "";
    facts.hidden = refused.hidden = true;
    state.textContent = "Waiting";
    try {
      const response = await fetch(form.action, {
        method: "POST", body: new FormData(form), headers: { Accept: "text/event-stream" }, signal: running.signal, redirect: "error",
      });
      if (!response.ok || !response.headers.get("Content-Type").startsWith("text/event-stream")) throw new Error();
      await read(response);
    } catch (error) {
      if (error.name === "AbortError") state.textContent = "Cancelled: the engine was told to stop";
      else refuse({ says: "The console did not answer. Load the page again; you may have been signed out.", code: "console_unavailable", request_id: "" });
    } finally {
      running = null;
      busy(false);
    }
  });
  cancel.addEventListener("click", () => { if (running) running.abort(); });
})();
