//! Syntax that runs in native code, and calls that only a program of some lines makes.

/// A name, an expression that prepares a value, and a function of the value that is run.
pub(super) type Program = (&'static str, &'static str, &'static str);

pub(super) const PROGRAMS: &[Program] = &[
    // The call that was found first.
    (
        "concat",
        "0",
        "() => [].concat(new Array(4294967295)).length",
    ),
    ("spread of an array", "new Array(4294967295)", "v => [...v]"),
    (
        "spread of an iterator",
        "Array.prototype.values.call({ length: 2 ** 53 - 1 })",
        "v => [...v]",
    ),
    (
        "spread into a call",
        "new Array(1048576)",
        "v => { for (;;) Math.max(...v) }",
    ),
    (
        "apply",
        "({ length: 1048576 })",
        "v => { for (;;) Math.max.apply(null, v) }",
    ),
    (
        "numbers of long strings",
        "new Array(1e6).fill('1'.repeat(1e6))",
        "v => Math.max(...v)",
    ),
    (
        "rest in a pattern",
        "new Array(4294967295)",
        "v => { const [a, ...b] = v; return b.length }",
    ),
    (
        "rest of an object",
        "Object.fromEntries(Array.from({ length: 1e5 }, (_, i) => ['k' + i, i]))",
        "v => { for (;;) { const { k1, ...rest } = v } }",
    ),
    (
        "spread of an object",
        "Object.fromEntries(Array.from({ length: 1e5 }, (_, i) => ['k' + i, i]))",
        "v => { for (;;) ({ ...v }) }",
    ),
    (
        "for in",
        "Object.fromEntries(Array.from({ length: 3e5 }, (_, i) => [i * 7919 % 300007, i]))",
        "v => { for (;;) for (const k in v) break }",
    ),
    (
        "for in over a chain",
        "(() => { let v = {}; for (let i = 0; i < 1e5; i++) v = Object.create(v); return v })()",
        "v => { for (;;) for (const k in v); }",
    ),
    (
        "in",
        "(() => { let v = { __proto__: null }; for (let i = 0; i < 1e5; i++) v = Object.create(v); return v })()",
        "v => { for (;;) 'a' in v }",
    ),
    (
        "get over a chain",
        "(() => { let v = { __proto__: null }; for (let i = 0; i < 1e5; i++) v = Object.create(v); return v })()",
        "v => { for (;;) v.a }",
    ),
    (
        "set over a chain",
        "(() => { let v = { __proto__: null, set b(x) {} }; for (let i = 0; i < 1e5; i++) v = Object.create(v); return v })()",
        "v => { for (;;) v.b = 1 }",
    ),
    (
        "instanceof over a chain",
        "(() => { let v = { __proto__: null }; for (let i = 0; i < 1e5; i++) v = Object.create(v); return v })()",
        "v => { for (;;) v instanceof Array }",
    ),
    (
        "for of with a long index",
        "({ length: 2 ** 53 - 1, __proto__: Array.prototype })",
        "v => { for (const x of v); }",
    ),
    (
        "template of ropes",
        "(() => { let s = 'x'.repeat(8192); for (let i = 0; i < 10; i++) s += s; return s })()",
        "v => { for (;;) `${v}${v}`.charCodeAt(1) }",
    ),
    (
        "doubling a rope",
        "'x'.repeat(8192)",
        "v => { for (;;) v += v }",
    ),
    (
        "comparing ropes",
        "[0, 1].map(() => { let s = 'x'.repeat(8192); for (let i = 0; i < 12; i++) s += s; return s })",
        "v => { for (;;) v[0] === v[1] }",
    ),
    (
        "ordering strings",
        "[0, 1].map(i => 'x'.repeat(16 << 20) + i)",
        "v => { for (;;) v[0] < v[1] }",
    ),
    (
        "equal strings in an array",
        "(() => { const s = 'x'.repeat(4 << 20); return [new Array(1e6).fill(s + '0'), s + '1'] })()",
        "v => v[0].includes(v[1])",
    ),
    (
        "a long key",
        "'x'.repeat(16 << 20)",
        "v => { const o = {}; for (;;) o[v] }",
    ),
    (
        "a long key of a map",
        "'x'.repeat(16 << 20)",
        "v => { const m = new Map(); for (;;) m.get(v) }",
    ),
    ("** of big integers", "3n", "v => { for (;;) v ** 600000n }"),
    (
        "* of big integers",
        "(1n << 500000n) - 1n",
        "v => { for (;;) v * v }",
    ),
    (
        "/ of big integers",
        "[(1n << 1000000n) - 1n, (1n << 500000n) - 3n]",
        "v => { for (;;) v[0] / v[1] }",
    ),
    (
        "% of big integers",
        "[(1n << 1000000n) - 1n, (1n << 500000n) - 3n]",
        "v => { for (;;) v[0] % v[1] }",
    ),
    (
        "<< of big integers",
        "1n",
        "v => { for (;;) v << 1000000n }",
    ),
    (
        "a big integer as a text",
        "(1n << 1000000n) - 1n",
        "v => { for (;;) v.toString() }",
    ),
    (
        "a text as a big integer",
        "'9'.repeat(3e5)",
        "v => { for (;;) BigInt(v) }",
    ),
    (
        "sort of numbers",
        "(() => { const a = new Array(5e5); let x = 1; for (let i = 0; i < a.length; i++) a[i] = x = x * 16807 % 2147483647; return a })()",
        "v => { for (;;) v.slice().sort() }",
    ),
    (
        "sort with a native comparator",
        "new Array(1e6).fill(1)",
        "v => { for (;;) v.sort(Math.max) }",
    ),
    (
        "sort of long strings",
        "Array.from({ length: 100 }, (_, i) => 'x'.repeat(2e5) + (i * 7919 % 100))",
        "v => { for (;;) v.sort() }",
    ),
    (
        "sort of a typed array",
        "(() => { const a = new Uint32Array(1 << 20); let x = 1; for (let i = 0; i < a.length; i++) a[i] = x = x * 16807 % 2147483647; return a })()",
        "v => { for (;;) v.slice().sort() }",
    ),
    (
        "shift",
        "new Array(1e6).fill(1)",
        "v => { for (;;) { v.shift(); v.push(1) } }",
    ),
    (
        "unshift",
        "new Array(1e6).fill(1)",
        "v => { for (;;) v.unshift(1) }",
    ),
    (
        "splice",
        "new Array(1e6).fill(1)",
        "v => { for (;;) v.splice(1, 1, 2, 3) }",
    ),
    (
        "length",
        "new Array(1e6).fill(1)",
        "v => { delete v[0]; for (;;) { v.length = 1; v.length = 4294967295 } }",
    ),
    (
        "copyWithin",
        "new Uint8Array(16 << 20)",
        "v => { for (;;) v.copyWithin(1, 0) }",
    ),
    (
        "slice of a buffer",
        "new ArrayBuffer(16 << 20)",
        "v => { for (;;) v.slice(0) }",
    ),
    (
        "indexOf of a typed array",
        "new Float64Array(4 << 20)",
        "v => { for (;;) v.indexOf(1) }",
    ),
    (
        "indexOf of a string",
        "'a'.repeat(8 << 20)",
        "v => v.indexOf('a'.repeat(2 << 20) + 'b')",
    ),
    (
        "lastIndexOf of a string",
        "'a'.repeat(8 << 20)",
        "v => v.lastIndexOf('b' + 'a'.repeat(2 << 20))",
    ),
    (
        "split",
        "'a'.repeat(8 << 20)",
        "v => v.split('a'.repeat(2 << 20) + 'b')",
    ),
    (
        "replaceAll",
        "'a'.repeat(8 << 20)",
        "v => v.replaceAll('a'.repeat(2 << 20) + 'b', '')",
    ),
    (
        "replaceAll of nothing",
        "'a'.repeat(8 << 20)",
        "v => v.replaceAll('', '')",
    ),
    (
        "normalize",
        "'a' + '\\u0327\\u0300'.repeat(5e5)",
        "v => v.normalize()",
    ),
    (
        "localeCompare",
        "'a' + '\\u0327\\u0300'.repeat(5e5)",
        "v => v.localeCompare(v)",
    ),
    (
        "isWellFormed",
        "'\\u{1f600}'.repeat(4 << 20)",
        "v => { for (;;) v.isWellFormed() }",
    ),
    ("trim", "' '.repeat(16 << 20)", "v => { for (;;) v.trim() }"),
    (
        "a regular expression that goes back",
        "'a'.repeat(1e5)",
        "v => /(a*)*b/.test(v)",
    ),
    (
        "a regular expression with a reference",
        "'a'.repeat(1e6)",
        "v => /^(a*)\\1*b/.test(v)",
    ),
    (
        "a regular expression with a long text",
        "[new RegExp('a'.repeat(5e5) + 'b'), 'a'.repeat(1e6)]",
        "v => v[0].test(v[1])",
    ),
    (
        "a regular expression that counts",
        "'a'.repeat(1e6)",
        "v => /^(?:(a)(?=a|$)){2,1000000}b/.test(v)",
    ),
    (
        "a regular expression that sees ahead",
        "'a'.repeat(1e6)",
        "v => /(?:(?=a*b)a)*c/.test(v)",
    ),
    (
        "many short matches",
        "'a'.repeat(1e6)",
        "v => { for (;;) v.replace(/a/g, '') }",
    ),
    (
        "the source of a regular expression",
        "'[' + Array.from({ length: 3e4 }, (_, i) => String.fromCharCode(i * 2 + 300)).join('') + ']'",
        "v => { for (;;) new RegExp(v, 'i') }",
    ),
    (
        "ranges without case",
        "'[a-z]'.repeat(1e5)",
        "v => new RegExp(v, 'i')",
    ),
    ("alternatives", "'a|'.repeat(1e6)", "v => new RegExp(v)"),
    (
        "names that come later",
        "'\\\\k<a>'.repeat(1e5) + '(?<a>)'",
        "v => new RegExp(v)",
    ),
    (
        "properties",
        "'\\\\p{L}'.repeat(1e4)",
        "v => { for (;;) new RegExp(v, 'u') }",
    ),
    (
        "tagged templates",
        "String.raw",
        "v => v({ raw: { length: 2 ** 53 - 1 } })",
    ),
    (
        "declarations in a block",
        "'{' + Array.from({ length: 6e4 }, (_, i) => 'let a' + i).join(';') + '}'",
        "v => { for (;;) (0, eval)(v) }",
    ),
    (
        "declarations at the top",
        "Array.from({ length: 6e4 }, (_, i) => 'var a' + i).join(';')",
        "v => { for (;;) new Function(v) }",
    ),
    (
        "parameters",
        "Array.from({ length: 6e4 }, (_, i) => 'a' + i).join(',')",
        "v => { for (;;) new Function(v, '\"use strict\"') }",
    ),
    (
        "private names",
        "'(class {' + Array.from({ length: 3e4 }, (_, i) => '#a' + i).join(';') + '})'",
        "v => { for (;;) (0, eval)(v) }",
    ),
    (
        "fields of a class",
        "'new (class {' + Array.from({ length: 3e4 }, (_, i) => 'a' + i + '=1').join(';') + '})'",
        "v => { for (;;) (0, eval)(v) }",
    ),
    (
        "a class with many fields",
        "(0, eval)('(class {' + Array.from({ length: 1e4 }, (_, i) => 'a' + i + '=1').join(';') + '})')",
        "v => { for (;;) new v() }",
    ),
    (
        "jumps",
        "'if (x) y();'.repeat(1e5)",
        "v => { for (;;) new Function('x', 'y', v) }",
    ),
    (
        "parentheses",
        "'('.repeat(250) + 'a,'.repeat(1e5)",
        "v => (0, eval)(v)",
    ),
    (
        "direct evals",
        "'let ' + Array.from({ length: 3e4 }, (_, i) => 'a' + i).join(',') + ';' + '(() => eval(\"1\"));'.repeat(1e3)",
        "v => { for (;;) new Function(v) }",
    ),
    (
        "labels",
        "'a:{'.repeat(200) + 'break a;'.repeat(1e5) + '}'.repeat(200)",
        "v => { for (;;) new Function(v) }",
    ),
    (
        "arrays in the source",
        "'[' + '1,'.repeat(1e6) + ']'",
        "v => { for (;;) (0, eval)(v) }",
    ),
    (
        "strings in the source",
        "'\"' + 'x'.repeat(8 << 20) + '\"'",
        "v => { for (;;) (0, eval)(v) }",
    ),
    (
        "stacks of errors",
        "(0, eval)('(function f(n) {' + 'a.b;'.repeat(2e5).replaceAll('a.b', '[].c') + 'try { null.x } catch (e) {} if (n) f(n - 1) })')",
        "v => { for (;;) v(5) }",
    ),
    (
        "JSON.parse",
        "'[' + '1,'.repeat(2e6) + '1]'",
        "v => { for (;;) JSON.parse(v) }",
    ),
    (
        "JSON.parse of a text",
        "'\"' + 'x'.repeat(8 << 20) + '\"'",
        "v => { for (;;) JSON.parse(v) }",
    ),
    (
        "JSON.stringify of holes",
        "new Array(4294967295)",
        "v => JSON.stringify(v)",
    ),
    (
        "JSON.stringify",
        "new Array(5e5).fill(1)",
        "v => { for (;;) JSON.stringify(v, null, 10) }",
    ),
    (
        "JSON.stringify with names",
        "Array.from({ length: 1e5 }, (_, i) => 'k' + i)",
        "v => { for (;;) JSON.stringify({}, v) }",
    ),
    (
        "keys of a proxy",
        "new Proxy({}, { ownKeys: () => Array.from({ length: 1e5 }, (_, i) => 'k' + i) })",
        "v => Reflect.ownKeys(v)",
    ),
    (
        "structuredClone",
        "new Array(5e5).fill({})",
        "v => { for (;;) structuredClone(v) }",
    ),
    (
        "keys of a map with one hash",
        "new Map(Array.from({ length: 5e4 }, (_, i) => [i * 4294967296, i]))",
        "v => { for (;;) v.get(-1) }",
    ),
    (
        "deleted keys",
        "(() => { const m = new Map(); const its = []; for (let i = 0; i < 1e4; i++) m.set(i, i); for (let i = 0; i < 1e4; i++) { const it = m.keys(); it.next(); its.push(it); m.delete(i) } return [m, its] })()",
        "v => { for (;;) v[0].keys().next() }",
    ),
    (
        "one key of many weak maps",
        "(() => { const k = {}; return [k, Array.from({ length: 1e5 }, () => new WeakMap([[k, 1]])).reverse()] })()",
        "v => { v[1] = null }",
    ),
    (
        "one target of many weak references",
        "(() => { const k = {}; return [k, Array.from({ length: 1e5 }, () => new WeakRef(k)).reverse()] })()",
        "v => { v[1] = null }",
    ),
    (
        "one target of a registry",
        "(() => { const k = {}, r = new FinalizationRegistry(() => {}); for (let i = 0; i < 1e5; i++) r.register(k, i, k); return [k, r] })()",
        "v => { for (;;) v[1].unregister({}) }",
    ),
    (
        "collecting a large heap",
        "Array.from({ length: 3e5 }, () => ({}))",
        "v => { for (;;) { const a = {}; a.a = a } }",
    ),
    (
        "freeing a deep list",
        "(() => { let a = null; for (let i = 0; i < 5e5; i++) a = { a }; return [a] })()",
        "v => { v[0] = null }",
    ),
    (
        "disposing",
        "(() => { const s = new DisposableStack(); for (let i = 0; i < 1e5; i++) s.defer(() => { for (;;); }); return s })()",
        "v => v.dispose()",
    ),
    (
        "promises",
        "0",
        "() => Promise.all({ [Symbol.iterator]: () => Array.prototype.values.call({ length: 2 ** 53 - 1 }) })",
    ),
    ("microtasks", "0", "async () => { for (;;) await 0 }"),
    (
        "catching",
        "0",
        "() => { for (;;) try { [].concat(new Array(4294967295)) } catch {} finally { continue } }",
    ),
    (
        "closing an iterator",
        "0",
        "() => Array.from({ [Symbol.iterator]: () => ({ next: () => ({}), return() { for (;;); } }) })",
    ),
    (
        "console.log",
        "new Array(1e5).fill('x'.repeat(1 << 20))",
        "v => console.log(...v)",
    ),
    (
        "digests",
        "new Uint8Array(16 << 20)",
        "v => { for (;;) crypto.subtle.digest('SHA-512', v) }",
    ),
    (
        "TextEncoder",
        "'x'.repeat(16 << 20)",
        "v => { const e = new TextEncoder(); for (;;) e.encode(v) }",
    ),
    (
        "TextDecoder",
        "new Uint8Array(16 << 20)",
        "v => { const d = new TextDecoder(); for (;;) d.decode(v) }",
    ),
    (
        "URL",
        "'http://a/' + 'x'.repeat(1 << 20)",
        "v => { for (;;) new URL(v) }",
    ),
    (
        "waiting for memory",
        "new Int32Array(new SharedArrayBuffer(1024))",
        "v => Atomics.wait(v, 0, 0, Infinity)",
    ),
    ("a result of holes", "new Array(4294967295)", "v => v"),
    (
        "a result that is a proxy",
        "new Proxy(new Array(4294967295), {})",
        "v => v",
    ),
];
