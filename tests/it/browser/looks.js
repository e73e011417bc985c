// How a page looks to those who see or aim badly: texts that are hard to tell from their ground, what is too small to touch, and
// whether it is wider than the screen.
const channels = (color) => color.match(/[\d.]+/g).map(Number);
const luminance = (color) => {
  const [red, green, blue] = channels(color).map((of) => of / 255);
  const linear = (of) => (of <= 0.04045 ? of / 12.92 : ((of + 0.055) / 1.055) ** 2.4);
  return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue);
};
const ground = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor;
    const [, , , alpha = 1] = channels(color);
    if (alpha === 1) return color;
  }
  return "rgb(255, 255, 255)";
};
const contrast = (one, other) => {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
};
const texts = [...document.querySelectorAll("h1, p, .name, .count, .count b")].filter((one) => one.textContent);
const ratio = (element) => contrast(getComputedStyle(element).color, ground(element));
const bars = [...document.querySelectorAll(".fill")];
const targets = [...document.querySelectorAll("button")].map((button) => button.getBoundingClientRect());
return {
  texts: texts.length,
  faint: texts.filter((one) => ratio(one) < 4.5).map((one) => `${one.id || one.className}: ${ratio(one)}`),
  faintBars: bars.filter((one) => contrast(getComputedStyle(one).backgroundColor, getComputedStyle(one.parentElement).backgroundColor) < 3).length,
  small: targets.filter(({ width, height }) => width < 48 || height < 48).length,
  onScreen: targets.filter(({ bottom }) => bottom <= innerHeight).length,
  isWide: document.documentElement.scrollWidth > innerWidth,
  width: innerWidth,
  moves: targets.length > 0 && getComputedStyle(document.querySelector("button")).transitionDuration !== "0s",
};
