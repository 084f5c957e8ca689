// Calls one function in a way that is prepared beforehand, so that its deadline is its own.
(() => {
  const bytes = (length, fill) => new Uint8Array(length).fill(fill);
  const values = {
    undefined: () => undefined,
    null: () => null,
    zero: () => 0,
    minusOne: () => -1,
    nan: () => NaN,
    infinity: () => Infinity,
    int31: () => 2 ** 31,
    int32: () => 2 ** 32 - 1,
    safe: () => 2 ** 53 - 1,
    million: () => 1e6,
    x: () => "x",
    symbol: () => Symbol.iterator,
    function: () => x => x,
    native: () => Math.abs,
    constructor: () => Array,
    object: () => ({}),
    longArray: () => new Array(4294967295),
    arrayLike: () => ({ length: 2 ** 53 - 1 }),
    sparse: () => { const array = []; array[4294967290] = 1; return array },
    dense: () => new Array(1e6).fill(7),
    words: () => Array.from({ length: 1e5 }, (_, i) => "w" + (i * 7919) % 1e5),
    bigWords: () => new Array(1e6).fill("v".repeat(1 << 20)),
    arguments: () => (function () { return arguments })(...new Array(1e5).fill(1)),
    deep: () => { let array = []; for (let i = 0; i < 1e5; i++) array = [array]; return array },
    text: () => "ab".repeat(1 << 20),
    needle: () => "a".repeat(1 << 20) + "b",
    aaa: () => "a".repeat(8 << 20),
    wide: () => "\u03a3.\u{1f600}".repeat(1 << 20),
    marks: () => "a" + "\u0327\u0300".repeat(3e5),
    spaces: () => " \u00a0".repeat(4 << 20),
    percents: () => "%41".repeat(2 << 20),
    dollars: () => "$<$`$'$&".repeat(1 << 17),
    digits: () => "9".repeat(3e5),
    rope: () => { let rope = "xy".repeat(4096); for (let i = 0; i < 12; i++) rope = rope + rope; return rope },
    json: () => "[" + "1,".repeat(1 << 20) + "1]",
    nested: () => "[".repeat(1e5),
    source: () => "let a = 1; { let a; }".repeat(1 << 16),
    pattern: () => "(a|b|[c-z])*".repeat(1 << 16),
    bigint: () => (1n << 1000000n) - 1n,
    typed: () => bytes(32 << 20, 1),
    floats: () => { const floats = new Float64Array(1 << 19); let x = 1; for (let i = 0; i < floats.length; i++) floats[i] = x = (x * 16807) % 2147483647; return floats },
    bigs: () => new BigInt64Array(2 << 20),
    buffer: () => new ArrayBuffer(32 << 20),
    resizable: () => new ArrayBuffer(1 << 20, { maxByteLength: 32 << 20 }),
    view: () => new DataView(new ArrayBuffer(1 << 20)),
    shared: () => new Int32Array(new SharedArrayBuffer(1024)),
    map: () => new Map(Array.from({ length: 1e5 }, (_, i) => [i, i])),
    set: () => new Set(Array.from({ length: 1e5 }, (_, i) => i)),
    weakMap: () => new WeakMap(),
    keys: () => Object.fromEntries(Array.from({ length: 1e5 }, (_, i) => ["k" + i, i])),
    chain: () => { let object = { __proto__: null }; for (let i = 0; i < 1e5; i++) object = Object.create(object); return object },
    proxy: () => new Proxy({ length: 2 ** 53 - 1 }, {}),
    arrayProxy: () => new Proxy(new Array(4294967295), {}),
    trap: () => new Proxy({}, { get: (_, key) => key === "length" ? 2 ** 53 - 1 : undefined, has: () => true, ownKeys: () => Array.from({ length: 5e4 }, (_, i) => "k" + i) }),
    endless: () => ({ [Symbol.iterator]: () => Array.prototype.values.call({ length: 2 ** 53 - 1 }) }),
    iterator: () => Array.prototype.values.call({ length: 2 ** 53 - 1 }),
    helper: () => Array.prototype.values.call({ length: 2 ** 53 - 1 }).filter(Number.isInteger),
    generator: () => (function* () { for (;;) yield 1 })(),
    setLike: () => ({ size: Infinity, has: Number.isInteger, keys: () => Array.prototype.values.call({ length: 2 ** 53 - 1 }) }),
    regexp: () => /(a+)+$/g,
    everywhere: () => /(?:)/gu,
    backwards: () => /(a*)\1*$/g,
    date: () => new Date(8.64e15),
    error: () => new Error("e"),
    promise: () => new Promise(() => {}),
  };
  let prepared;
  const run = ({ called, form, receiver, given }) => {
    const result = form === "construct" ? Reflect.construct(called, given)
      : form === "call" ? called(...given) : Reflect.apply(called, receiver, given);
    // What is lazy has done nothing yet.
    return typeof result?.next === "function" ? Array.from({ [Symbol.iterator]: () => result }) : result;
  };
  return (subject, payload) => {
    const text = String.fromCharCode(...payload);
    if (text === "names") return Object.keys(values).join("\n");
    if (text === "run") return run(prepared);
    const [path, form, receiver, ...given] = text.split("\n");
    prepared = {
      called: (0, eval)(path), form, receiver: values[receiver](), given: given.map(name => values[name]()),
    };
  };
})()
