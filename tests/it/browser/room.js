// What the page of a room shows.
const text = (selector) => document.querySelector(selector)?.textContent ?? null;
const tile = (button) => ({
  count: button.querySelector(".count").textContent,
  filled: button.querySelector(".fill").style.width,
  waits: button.getAttribute("aria-disabled") === "true",
  glows: button.classList.contains("effect"),
});
const buttons = [...document.querySelectorAll("#tiles button")];
return {
  language: document.documentElement.lang,
  window: document.title,
  title: text("#title"),
  about: text("#about"),
  connection: text("#connection"),
  said: text("#said"),
  viewers: text("#viewers"),
  names: buttons.map((button) => button.querySelector(".name").textContent),
  tiles: Object.fromEntries(buttons.map((button) => [button.dataset.type, tile(button)])),
};
