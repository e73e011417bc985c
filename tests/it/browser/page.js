// A page that keeps a conversation, as docs/protocol.md says a page should. `page.view` is what its reader sees: each
// message that an event told of, once, in the order of the events, with its text from the history.
const [token] = arguments;
const headers = token ? { authorization: `Bearer ${token}` } : {};
const page = { view: [], kinds: {}, opened: 0, reopened: 0 };
window.page = page;

const shown = new Set();
// Messages that were read from the history and not shown yet: events come faster than pages.
const read = new Map();
let lastEventId = "";
let shownUpTo = Promise.resolve();

const soon = () => new Promise((resolve) => setTimeout(resolve, 200));

async function pageOfHistory(conversationId, cursor) {
  const from = cursor ? `&cursor=${cursor}` : "";
  return get(`/api/chat/history?conversationId=${conversationId}&limit=100${from}`);
}

async function get(url) {
  const answer = await fetch(url, { headers });
  if (!answer.ok) throw new Error(`${url} is answered ${answer.status}`);
  return answer.json();
}

async function inHistory(conversationId, messageId) {
  let cursor = "";
  while (!read.has(messageId)) {
    const { messages, nextCursor } = await pageOfHistory(conversationId, cursor);
    for (const message of messages) read.set(message.messageId, message);
    if (!read.has(messageId) && !nextCursor) throw new Error(`not in the history: ${messageId}`);
    cursor = nextCursor;
  }
  return read.get(messageId);
}

async function show({ conversationId, messageId }) {
  if (shown.has(messageId)) return;
  const { body } = await inHistory(conversationId, messageId);
  read.delete(messageId);
  shown.add(messageId);
  page.view.push({ messageId, body });
}

// Everything that there is, where no place says what was missed.
async function showHistory() {
  const { conversations } = await get("/api/chat/conversations");
  for (const { conversationId } of conversations) {
    const missed = [];
    let cursor = "";
    do {
      const { messages, nextCursor } = await pageOfHistory(conversationId, cursor);
      missed.push(...messages);
      cursor = nextCursor;
    } while (cursor);
    for (const message of missed.reverse()) {
      read.set(message.messageId, message);
      await show(message);
    }
  }
}

// One after the other, each until it is done: whoever answers may be away for a moment.
function inTurn(act) {
  shownUpTo = shownUpTo.then(async () => {
    for (;;) {
      try {
        return await act();
      } catch (error) {
        page.trouble = String(error);
        await soon();
      }
    }
  });
}

function open() {
  const query = new URLSearchParams();
  if (token) query.set("token", token);
  if (lastEventId) query.set("lastEventId", lastEventId);
  const stream = new EventSource(`/api/chat/stream?${query}`);
  const on = (kind, act) =>
    stream.addEventListener(kind, (event) => {
      page.kinds[kind] = (page.kinds[kind] ?? 0) + 1;
      act?.(event);
    });
  // The first of all streams opens where the page begins.
  const knowsNoPlace = !lastEventId && page.reopened > 0;
  stream.onopen = () => {
    page.opened += 1;
    // Once it stands: what comes from now on, it tells.
    if (knowsNoPlace) inTurn(showHistory);
  };
  // It comes back by itself where a connection breaks, but not from an answer that is not 200.
  stream.onerror = () => {
    if (stream.readyState !== EventSource.CLOSED) return;
    page.reopened += 1;
    soon().then(open);
  };
  on("message", (event) => {
    lastEventId = event.lastEventId;
    const message = JSON.parse(event.data);
    inTurn(() => show(message));
  });
  on("resync", () => inTurn(showHistory));
  on("reconnect");
  on("expired", () => stream.close());
  on("taken_over", () => stream.close());
}

open();
