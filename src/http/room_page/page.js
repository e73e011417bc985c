// What a viewer of a room sees, and presses. The room's stream tells how all counts stand; what the viewer's own presses are
// answered is known sooner. Text goes in as text alone. docs/protocol.md has the calls, under Rooms.

const TEXTS = {
  en: {
    title: "Press together",
    about: "Fill a bar to set off its effect.",
    connecting: "Connecting…",
    reconnecting: "Connection lost. Reconnecting…",
    names: { skill: "Skill", enemy: "Enemy" },
    named: (name, number) => `${name} ${number}`,
    count: (count, required) => `${count} of ${required} presses`,
    viewers: (count) => `${count} active ${count === 1 ? "viewer" : "viewers"}`,
    effect: (name) => `${name}: the effect is triggered!`,
    limited: (seconds) => `That was too fast. You can press again in ${seconds} ${seconds === 1 ? "second" : "seconds"}.`,
    again: "No answer yet. Your press is being sent again…",
    failed: "Your press could not be sent. Please try again later.",
    unknown: ["Room not found", "Please check the link. The room may also have ended."],
    ended: ["This room has ended", "Thank you for playing."],
  },
  ja: {
    title: "みんなでボタンを押そう",
    about: "ゲージがたまると、ゲームで効果が発動します。",
    connecting: "接続しています…",
    reconnecting: "接続が切れました。再接続しています…",
    names: { skill: "スキル", enemy: "敵" },
    named: (name, number) => `${name}${number}`,
    count: (count, required) => `${required}回中${count}回`,
    viewers: (count) => `参加中の視聴者：${count}人`,
    effect: (name) => `「${name}」の効果が発動しました！`,
    limited: (seconds) => `押すのが速すぎます。${seconds}秒後にまた押せます。`,
    again: "応答がありません。もう一度送信しています…",
    failed: "送信できませんでした。しばらくしてから、もう一度押してください。",
    unknown: ["ルームが見つかりません", "リンクをご確認ください。ルームはすでに終了している可能性もあります。"],
    ended: ["ルームは終了しました", "ご参加ありがとうございました。"],
  },
};

// An answer is newer than what the stream says for so long: that was on its way.
const SETTLES_MS = 700;
// A full bar is shown for so long before it is empty again.
const EFFECT_MS = 1_500;
const SAID_MS = 6_000;
// A home that moves is waited for, ten seconds at most, before an answer comes.
const ANSWER_MS = 15_000;
const TRIES = 6;
// Who says to wait for longer is not asked again for this press.
const LONGEST_WAIT_MS = 15_000;
const MOST_UNDER_WAY = 30;
// A page that nobody looks at gives its connection up after so long.
const UNSEEN_MS = 30_000;
const LONGEST_BACKOFF_MS = 30_000;

const languages = (navigator.languages ?? [navigator.language]).map((tag) => tag.toLowerCase().split("-")[0]);
const language = languages.find((tag) => Object.keys(TEXTS).includes(tag)) ?? "en";
const text = TEXTS[language];
document.documentElement.lang = language;

const at = (id) => document.getElementById(id);
const room = location.pathname.split("/").pop();
// Beside the page, wherever a proxy has put it.
const api = new URL(`../api/rooms/${room}`, location.href).href;
const viewer = ownName();
const tiles = new Map();

let stream = null;
let comesBack = 0;
let failures = 0;
let isOver = false;
let presses = 0;
let underWay = 0;
let mayPressAt = 0;
let saying = 0;
// What was said of a press that did not count; the next one that does takes it back.
let trouble = "";
let unseenSince = 0;
let givesUp = 0;

// `crypto.randomUUID` is not there on a page that came without TLS.
function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

// The same in every room and tab of this browser; where nothing may be kept, of this page alone.
function ownName() {
  try {
    const kept = localStorage.getItem("roost.viewer");
    if (/^[0-9a-f-]{36}$/.test(kept ?? "")) return kept;
    const made = uuid();
    localStorage.setItem("roost.viewer", made);
    return made;
  } catch {
    return uuid();
  }
}

function nameOf(type) {
  const [, kind, number] = /^(skill|enemy)([1-9])$/.exec(type) ?? [];
  return kind ? text.named(text.names[kind], number) : type;
}

function part(kind, name) {
  const made = document.createElement(kind);
  made.className = name;
  return made;
}

// A button and how its event type stands.
class Tile {
  constructor(type) {
    this.type = type;
    this.name = nameOf(type);
    this.answeredUpTo = 0;
    this.settles = 0;
    this.glows = 0;
    this.button = part("button", "press");
    this.button.type = "button";
    this.button.dataset.type = type;
    this.label = part("span", "name");
    this.label.textContent = this.name;
    this.count = part("span", "count");
    this.reached = document.createElement("b");
    this.required = document.createElement("span");
    this.count.append(this.reached, this.required);
    // The figures in words, for those who hear them.
    this.inWords = part("span", "aside");
    this.bar = part("span", "bar");
    this.fill = part("span", "fill");
    this.bar.append(this.fill);
    for (const seen of [this.count, this.bar]) seen.setAttribute("aria-hidden", "true");
    this.button.append(this.label, this.inWords, this.count, this.bar);
    this.button.addEventListener("click", () => press(this));
    this.button.addEventListener("keydown", (event) => {
      // A key that is held down is one press.
      if (event.repeat && (event.key === "Enter" || event.key === " ")) event.preventDefault();
    });
  }

  draw(count, required) {
    this.reached.textContent = count;
    this.required.textContent = ` / ${required}`;
    this.inWords.textContent = `, ${text.count(count, required)}`;
    this.fill.style.width = `${Math.min(100, (100 * count) / required)}%`;
  }

  // The stream's word.
  told(count, required) {
    this.next = [count, required];
    if (!this.settles) this.draw(count, required);
  }

  // What this viewer's press of that number was answered; one that comes late is of no use any more.
  answered(number, answer) {
    if (number < this.answeredUpTo) return;
    this.answeredUpTo = number;
    const { current_count, required_count, effect_triggered, next_threshold } = answer;
    if (effect_triggered) {
      this.draw(current_count, required_count);
      this.next = [0, next_threshold];
      this.glow();
    } else {
      this.next = [current_count, next_threshold];
      this.draw(...this.next);
    }
    clearTimeout(this.settles);
    this.settles = setTimeout(() => this.settle(), effect_triggered ? EFFECT_MS : SETTLES_MS);
  }

  settle() {
    this.settles = 0;
    this.draw(...this.next);
  }

  glow() {
    this.button.classList.add("effect");
    clearTimeout(this.glows);
    this.glows = setTimeout(() => this.button.classList.remove("effect"), EFFECT_MS);
  }
}

// Read out where the reader is, also if it is the same again: so it is gone for a moment first.
function say(message) {
  trouble = "";
  clearTimeout(saying);
  at("said").textContent = "";
  saying = setTimeout(() => {
    at("said").textContent = message;
    saying = setTimeout(() => (at("said").textContent = ""), SAID_MS);
  }, 60);
}

function complain(message) {
  say(message);
  trouble = message;
}

function show({ stats }) {
  for (const { event_type, current_count, required_count } of stats) {
    if (!tiles.has(event_type)) {
      const tile = new Tile(event_type);
      const item = document.createElement("li");
      item.append(tile.button);
      at("tiles").append(item);
      tiles.set(event_type, tile);
    }
    tiles.get(event_type).told(current_count, required_count);
  }
  if (stats.length > 0) showViewers(stats[0].viewer_count);
}

function showViewers(count) {
  at("viewers").textContent = text.viewers(count);
}

// In the place of a line that nobody needs then: a button that moved would not be the one that was aimed at.
function showConnection(message) {
  if (at("connection").textContent === message) return;
  at("connection").textContent = message;
  at("about").hidden = message !== "";
}

function listen() {
  leave();
  const opened = new EventSource(`${api}/stream`);
  stream = opened;
  opened.addEventListener("stats", (event) => {
    failures = 0;
    showConnection("");
    show(JSON.parse(event.data));
  });
  opened.addEventListener("ended", () => end("ended"));
  opened.onerror = () => {
    showConnection(tiles.size > 0 ? text.reconnecting : text.connecting);
    // A connection that broke comes back by itself; an answer that is no stream is the end of it.
    if (opened.readyState === EventSource.CLOSED) comeBack();
  };
}

function leave() {
  clearTimeout(comesBack);
  stream?.close();
  stream = null;
}

// A stream does not say why it was refused; another call does, and how the room stands meanwhile.
async function comeBack() {
  leave();
  const backoff = Math.min(LONGEST_BACKOFF_MS, 1_000 * 2 ** failures);
  failures += 1;
  comesBack = setTimeout(listen, backoff * (0.5 + Math.random() / 2));
  const { status, told } = await ask(`${api}/stats`, {});
  if (status === 404) end(tiles.size > 0 ? "ended" : "unknown");
  if (status === 200 && !isOver) show(told);
}

function end(why) {
  isOver = true;
  leave();
  const [title, about] = text[why];
  document.title = title;
  at("title").textContent = title;
  at("about").textContent = about;
  showConnection("");
  // A button that had the focus is gone.
  if (why === "ended") at("title").focus();
  for (const id of ["tiles", "viewers"]) at(id).replaceChildren();
  document.documentElement.dataset.room = why;
}

// What was answered; status 0 where nothing was.
async function ask(url, asked) {
  try {
    const answer = await fetch(url, { ...asked, signal: AbortSignal.timeout?.(ANSWER_MS) });
    const told = answer.ok ? await answer.json() : null;
    return { status: answer.status, told, waitMs: 1_000 * Number(answer.headers.get("retry-after") ?? 0) };
  } catch {
    return { status: 0, told: null, waitMs: 0 };
  }
}

// Sends one press until it is answered: under the same id, so that it is counted once however often it arrives.
async function send(event_type) {
  const body = JSON.stringify({ event_type, viewer_id: viewer, press_id: uuid() });
  const asked = { method: "POST", headers: { "content-type": "application/json" }, body };
  for (let tried = 1; ; tried += 1) {
    const answer = await ask(`${api}/events`, asked);
    const backoff = 500 * 2 ** (tried - 1) * (0.5 + Math.random() / 2);
    const wait = answer.waitMs || backoff;
    const mayPass = [0, 502, 503, 504].includes(answer.status);
    if (!mayPass || tried === TRIES || wait > LONGEST_WAIT_MS || isOver) return answer;
    complain(text.again);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

async function press(tile) {
  if (Date.now() < mayPressAt) return complain(text.limited(secondsLeft()));
  // Nothing has been answered for a while.
  if (underWay >= MOST_UNDER_WAY) return complain(text.again);
  presses += 1;
  const number = presses;
  underWay += 1;
  const { status, told, waitMs } = await send(tile.type);
  underWay -= 1;
  if (isOver) return;
  switch (status) {
    case 200:
      tile.answered(number, told);
      showViewers(told.viewer_count);
      if (told.effect_triggered) say(text.effect(tile.name));
      else if (trouble && Date.now() >= mayPressAt) say("");
      break;
    case 404:
      end("ended");
      break;
    case 429:
      waitFor(waitMs || 1_000);
      break;
    default:
      complain(text.failed);
  }
}

const secondsLeft = () => Math.max(1, Math.ceil((mayPressAt - Date.now()) / 1_000));

// The limit is the viewer's, so no button would do. They keep the focus: they are not disabled, they say why they wait.
function waitFor(milliseconds) {
  mayPressAt = Math.max(mayPressAt, Date.now() + milliseconds);
  complain(text.limited(secondsLeft()));
  for (const { button } of tiles.values()) button.setAttribute("aria-disabled", "true");
  setTimeout(() => {
    if (Date.now() < mayPressAt) return;
    for (const { button } of tiles.values()) button.removeAttribute("aria-disabled");
  }, milliseconds + 10);
}

// A browser keeps few connections to one server, and a phone that slept does not notice that one is gone.
function seen() {
  if (isOver) return;
  if (document.visibilityState === "hidden") {
    unseenSince = Date.now();
    givesUp = setTimeout(leave, UNSEEN_MS);
  } else {
    clearTimeout(givesUp);
    if (unseenSince > 0 && Date.now() - unseenSince >= UNSEEN_MS) listen();
  }
}

if (document.documentElement.dataset.room === "unknown") {
  end("unknown");
} else {
  document.title = text.title;
  at("title").textContent = text.title;
  at("about").textContent = text.about;
  showConnection(text.connecting);
  document.addEventListener("visibilitychange", seen);
  // A page that is put away keeps no stream, and takes it up again when it is taken out.
  addEventListener("pagehide", leave);
  addEventListener("pageshow", (event) => event.persisted && !isOver && listen());
  listen();
}
