// The paths of all functions that a script can reach: from the global object, and from values that
// only syntax makes. A path is an expression that gives the function in any instance.
(() => {
  const seeds = {
    "globalThis": globalThis,
    "(function* () {})": function* () {},
    "(async function () {})": async function () {},
    "(async function* () {})": async function* () {},
    "(function* () {})()": (function* () {})(),
    "(async function* () {})()": (async function* () {})(),
    "(function () { return arguments })()": (function () { return arguments })(),
    "[][Symbol.iterator]()": [][Symbol.iterator](),
    "''[Symbol.iterator]()": ""[Symbol.iterator](),
    "/a/[Symbol.matchAll]('')": /a/[Symbol.matchAll](""),
    "new Map().entries()": new Map().entries(),
    "new Set().entries()": new Set().entries(),
    "[].values().map(x => x)": [].values().map(x => x),
    "Iterator.from({ next() {} })": Iterator.from({ next() {} }),
    "new Error()": new Error(),
    "/a/": /a/,
    "crypto": crypto,
  };
  const seen = new Set(), paths = [];
  const queue = Object.entries(seeds);
  const visit = (path, value) => {
    if ((typeof value !== "object" && typeof value !== "function") || value === null || seen.has(value)) return;
    seen.add(value);
    if (typeof value === "function") paths.push(path);
    queue.push([path, value]);
  };
  for (const [path, value] of [...queue]) if (value !== globalThis) visit(path, value);
  seen.add(globalThis);
  for (let next; (next = queue.shift());) {
    const [path, object] = next;
    visit(`Object.getPrototypeOf(${path})`, Object.getPrototypeOf(object));
    for (const key of Reflect.ownKeys(object)) {
      if (typeof key === "symbol" && Symbol.keyFor(key) === undefined && !String(key.description).startsWith("Symbol.")) continue;
      const name = typeof key === "symbol" ? key.description : JSON.stringify(key);
      const { get, set, value } = Object.getOwnPropertyDescriptor(object, key);
      const own = `Object.getOwnPropertyDescriptor(${path}, ${name})`;
      if (object === globalThis && get) visit(`globalThis[${name}]`, globalThis[key]);
      else {
        if (get) visit(`${own}.get`, get);
        if (set) visit(`${own}.set`, set);
        visit(`${path}[${name}]`, value);
      }
    }
  }
  return () => paths.join("\n");
})()
