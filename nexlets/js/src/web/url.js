// URL and URLSearchParams, on the host's parser.
(host, need) => {
  const changed = Symbol();

  class URLSearchParams {
    #pairs = []; #url;
    constructor(init = "") {
      if (typeof init === "object" && init !== null) {
        const pairs = typeof init[Symbol.iterator] === "function" ? init : Object.entries(init);
        for (const pair of pairs) {
          const [name, value, more] = [...pair];
          if (value === undefined || more !== undefined) throw new TypeError("want pairs of a name and a value");
          this.#pairs.push([String(name), String(value)]);
        }
      } else {
        this.#pairs = host.formParse(String(init).replace(/^\?/, ""));
      }
    }
    static [changed](params, url, search) {
      params.#url = url;
      params.#pairs = host.formParse(search.replace(/^\?/, ""));
      return params;
    }
    #tell() { if (this.#url) URL[changed](this.#url, String(this)) }
    get size() { return this.#pairs.length }
    append(name, value) { this.#pairs.push([String(name), String(value)]); this.#tell() }
    delete(name, value) {
      this.#pairs = this.#pairs.filter(([n, v]) => n !== String(name) || (value !== undefined && v !== String(value)));
      this.#tell();
    }
    get(name) { return this.#pairs.find(([n]) => n === String(name))?.[1] ?? null }
    getAll(name) { return this.#pairs.filter(([n]) => n === String(name)).map(([, v]) => v) }
    has(name, value) { return this.#pairs.some(([n, v]) => n === String(name) && (value === undefined || v === String(value))) }
    set(name, value) {
      const first = this.#pairs.findIndex(([n]) => n === String(name));
      if (first < 0) return this.append(name, value);
      this.#pairs[first][1] = String(value);
      this.#pairs = this.#pairs.filter(([n], at) => at <= first || n !== String(name));
      this.#tell();
    }
    sort() { this.#pairs.sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0); this.#tell() }
    forEach(call, self) { for (const [name, value] of [...this.#pairs]) call.call(self, value, name, this) }
    *entries() { for (const [name, value] of this.#pairs) yield [name, value] }
    *keys() { for (const [name] of this.#pairs) yield name }
    *values() { for (const [, value] of this.#pairs) yield value }
    [Symbol.iterator]() { return this.entries() }
    toString() { return host.formText(this.#pairs) }
  }

  const parts = ["href", "origin", "protocol", "username", "password", "host", "hostname", "port", "pathname", "search", "hash"];

  class URL {
    #parts; #params;
    constructor(url, base) {
      const parsed = host.urlParse(String(url), base === undefined ? undefined : String(base));
      if (!parsed) throw new TypeError(`invalid URL: ${String(url).slice(0, 200)}`);
      this.#parts = parsed;
    }
    static canParse(url, base) { return Boolean(host.urlParse(String(url), base === undefined ? undefined : String(base))) }
    static parse(url, base) { return URL.canParse(url, base) ? new URL(url, base) : null }
    static [changed](url, search) { url.#parts = host.urlSet(url.#parts[0], "search", search) }
    get searchParams() {
      return this.#params ??= URLSearchParams[changed](new URLSearchParams(), this, this.search);
    }
    toString() { return this.#parts[0] }
    toJSON() { return this.#parts[0] }
    static {
      parts.forEach((name, at) => {
        const property = { configurable: true, enumerable: true, get() { return this.#parts[at] } };
        if (name !== "origin") {
          property.set = function (value) {
            const parsed = host.urlSet(this.#parts[0], name, String(value));
            if (parsed) this.#parts = parsed;
            else if (name === "href") throw new TypeError(`invalid URL: ${String(value).slice(0, 200)}`);
            if (this.#params) URLSearchParams[changed](this.#params, this, this.search);
          };
        }
        Object.defineProperty(this.prototype, name, property);
      });
    }
  }

  return { URL, URLSearchParams };
}
