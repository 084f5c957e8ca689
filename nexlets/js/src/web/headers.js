// Headers. Names are looked for whatever their case.
(host, need) => {
  const raw = Symbol();
  const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
  const nameOf = name => {
    name = String(name);
    if (!token.test(name)) throw new TypeError(`invalid name of a header: ${name.slice(0, 100)}`);
    return name.toLowerCase();
  };
  const valueOf = value => {
    value = String(value).replace(/^[\t\r\n ]+|[\t\r\n ]+$/g, "");
    if (/[\0\r\n]/.test(value)) throw new TypeError("the value of a header has a line break or a zero");
    return value;
  };

  class Headers {
    #pairs = [];
    constructor(init) {
      if (init === undefined || init === null) return;
      const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
      for (const [name, value] of pairs) this.append(name, value);
    }
    // What came over the wire is taken as it is.
    static [raw](pairs) {
      const headers = new Headers();
      for (const [name, value] of pairs) headers.#pairs.push([name.toLowerCase(), value]);
      return headers;
    }
    append(name, value) { this.#pairs.push([nameOf(name), valueOf(value)]) }
    delete(name) { name = nameOf(name); this.#pairs = this.#pairs.filter(([n]) => n !== name) }
    get(name) {
      name = nameOf(name);
      const values = this.#pairs.filter(([n]) => n === name).map(([, v]) => v);
      return values.length ? values.join(", ") : null;
    }
    getSetCookie() { return this.#pairs.filter(([n]) => n === "set-cookie").map(([, v]) => v) }
    has(name) { name = nameOf(name); return this.#pairs.some(([n]) => n === name) }
    set(name, value) {
      value = valueOf(value);
      this.delete(name);
      this.#pairs.push([nameOf(name), value]);
    }
    forEach(call, self) { for (const [name, value] of this) call.call(self, value, name, this) }
    *entries() {
      for (const name of [...new Set(this.#pairs.map(([n]) => n))].sort()) {
        if (name === "set-cookie") for (const value of this.getSetCookie()) yield [name, value];
        else yield [name, this.#pairs.filter(([n]) => n === name).map(([, v]) => v).join(", ")];
      }
    }
    *keys() { for (const [name] of this.entries()) yield name }
    *values() { for (const [, value] of this.entries()) yield value }
    [Symbol.iterator]() { return this.entries() }
    toJSON() { return Object.fromEntries(this) }
  }

  return { Headers, headersOf: Headers[raw] };
}
