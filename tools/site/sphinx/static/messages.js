// Shows the message that a pasted text ends with, whatever numbers, names and paths are in it, as
// helpers/explain.py finds it; or the messages that hold every word typed.
const field = document.querySelector("#message-filter");
const count = document.querySelector("#message-count");
const wordings = JSON.parse(document.querySelector("#message-wordings").textContent);
const messages = [...document.querySelectorAll("article section section li")];
const types = [...document.querySelectorAll("article section section")];

function normalised(text) {
  const plain = text.toLowerCase().replace(/['"`‘’“”]/g, "").replace(/\\+/g, "/");
  return plain.replace(/0x[\da-f]+|\d+(?:\.\d+)*/g, "#").replace(/\s+/g, " ").trim();
}

// Without a gap there, a wording begins and ends where a word does.
function holds(said, wording, general) {
  const parts = wording.split("…").map((part) => part.trim());
  const literal = parts.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const start = !general && /^[a-z\d]/.test(wording) ? "(?<![a-z_])" : "";
  const end = wording.endsWith("…") ? "" : "(?!\\w)";
  return new RegExp(start + literal.join(".*?") + end, "u").test(said);
}

// Whether the last of several errors is a launcher's, or a warning at the end of a program.
function isOfOthers(heads, text) {
  const [last, above] = [heads.at(-1), heads.slice(0, -1)];
  const launchers = /^(?:ChildFailed|CalledProcess)Error$|^(?:ProcessExited|Signal)Exception$/;
  const other = launchers.test(last[1]) ? launchers : /Warning$/;
  const between = text.slice(above.at(-1).index, last.index);
  return other.test(last[1]) && between.includes("\n") && above.some((it) => !other.test(it[1]));
}

// The name of the entry that answers a text; undefined if none does.
function answered(pasted) {
  // A message that is empty, and one that the log of a launcher follows.
  const bare = /^((?:\w+\.)*\w+(?:Error|Exception))[ \t]*$/gm;
  const log = /^.*torch[./]distributed[./]elastic\b.*\bfailed \(exitcode[^]*/m;
  const text = pasted.replace(bare, "$1: ").replace(/:[^]*/, (said) => said.replace(log, ""));
  const heads = [...text.matchAll(/\b((?:[A-Z]\w*)?(?:Error|Warning|Exception))\s*[:：]/g)];
  let end = text.length;
  while (heads.length > 1 && isOfOthers(heads, text)) {
    end = heads.pop().index;
  }
  const last = heads.at(-1);
  const above = heads.at(-2);
  const whole = normalised(text.slice(above ? above.index + above[0].length : 0, end));
  const said = normalised(last ? text.slice(last.index + last[0].length, end) : text);
  // A general entry comes after all others, in the order of the file.
  const weight = ([, type, wording, general]) =>
    general ? 0 : wording.length + (last?.[1] === type ? 0.5 : 0);
  const found = wordings.filter(
    ([, type, wording, general]) =>
      // A wording with the name of an error also says what stands above the message.
      holds(/(?:^|[\w…])(?:error|warning):/.test(wording) ? whole : said, wording, general) &&
      (!general || type === "Error" || type === last?.[1]),
  );
  return found.sort((one, other) => weight(other) - weight(one))[0]?.[0];
}

function filter() {
  const words = field.value.toLowerCase().match(/[\p{L}\p{N}_]+/gu) ?? [];
  const wanted = words.filter((word) => !/\d/.test(word));
  const name = answered(field.value);
  for (const message of messages) {
    const text = message.textContent.toLowerCase();
    message.hidden = name
      ? message.querySelector("[data-entry]")?.dataset.entry !== name
      : !wanted.every((word) => text.includes(word));
  }
  for (const type of types) {
    type.hidden = !type.querySelector("li:not([hidden])");
  }
  const found = messages.filter((message) => !message.hidden).length;
  count.textContent = wanted.length ? `${found} of ${messages.length} messages` : "";
}

field.addEventListener("input", filter);
filter();
