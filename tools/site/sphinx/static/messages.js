// Shows the messages that hold every word typed. Numbers do not count: they are other ones elsewhere.
const field = document.querySelector("#message-filter");
const count = document.querySelector("#message-count");
const messages = [...document.querySelectorAll("article section section li")];
const types = [...document.querySelectorAll("article section section")];

function filter() {
  const words = field.value.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? [];
  const wanted = words.filter((word) => !/\d/.test(word));
  for (const message of messages) {
    const text = message.textContent.toLowerCase();
    message.hidden = !wanted.every((word) => text.includes(word));
  }
  for (const type of types) {
    type.hidden = !type.querySelector("li:not([hidden])");
  }
  const found = messages.filter((message) => !message.hidden).length;
  count.textContent = wanted.length ? `${found} of ${messages.length} messages` : "";
}

field.addEventListener("input", filter);
filter();
