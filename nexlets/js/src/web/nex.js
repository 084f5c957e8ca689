// What a module's function is given: the request, and the host services in their asynchronous form.
(host, need) => {
  // Made at the call, so that what is thrown later has the place of the call.
  const E = Error;
  const { ask } = host;

  class Bucket {
    #name;
    constructor(name) { this.#name = name }
    get(key) { return ask(new E(""), "kv.get", this.#name, key) }
    entry(key) { return ask(new E(""), "kv.entry", this.#name, key) }
    set(key, value) { return ask(new E(""), "kv.set", this.#name, key, value) }
    put(key, value) { return ask(new E(""), "kv.put", this.#name, key, value) }
    create(key, value) { return ask(new E(""), "kv.create", this.#name, key, value) }
    update(key, value, revision) { return ask(new E(""), "kv.update", this.#name, key, value, revision) }
    delete(key) { return ask(new E(""), "kv.delete", this.#name, key) }
    keys() { return ask(new E(""), "kv.keys", this.#name) }
    async *watch(keys = ">", { updatesOnly = false } = {}) {
      const watch = await ask(new E(""), "kv.watch", this.#name, keys, updatesOnly);
      try {
        for (;;) yield await ask(new E(""), "kv.change", watch);
      } finally {
        host.unwatch(watch);
      }
    }
  }

  class ObjectStore {
    #name;
    constructor(name) { this.#name = name }
    get(name) { return ask(new E(""), "objects.get", this.#name, name) }
    put(name, value) { return ask(new E(""), "objects.put", this.#name, name, value) }
    info(name) { return ask(new E(""), "objects.info", this.#name, name) }
    delete(name) { return ask(new E(""), "objects.delete", this.#name, name) }
    list() { return ask(new E(""), "objects.list", this.#name) }
  }

  const http = {};
  for (const method of ["get", "post", "put", "patch", "delete", "head"]) {
    http[method] = (...values) => ask(new E(""), `http.${method}`, ...values);
  }
  const messaging = {
    publish(subject, payload) { return ask(new E(""), "publish", subject, payload) },
    request(subject, payload) { return ask(new E(""), "request", subject, payload) },
    requestMany(subject, payload, options) { return ask(new E(""), "requestMany", subject, payload, options) },
  };

  class Invocation {
    #headers;
    constructor(id, subject, payload, headers, attempt) {
      this.id = id;
      this.subject = subject;
      this.payload = payload;
      this.attempt = attempt;
      this.#headers = headers;
    }
    get headers() {
      if (Array.isArray(this.#headers)) this.#headers = need("headers").headersOf(this.#headers);
      return this.#headers;
    }
    text() { return host.decode(this.payload, false, false)[0] }
    json() { return JSON.parse(this.text()) }
  }

  const nex = {
    kv: name => new Bucket(name),
    objectStore: name => new ObjectStore(name),
    http: Object.freeze(http),
    messaging: Object.freeze(messaging),
    env: Object.freeze(Object.fromEntries(host.env)),
    workload: Object.freeze(Object.fromEntries(host.workload)),
  };
  Object.freeze(nex);
  return {
    run: (call, ...values) => call(new Invocation(...values), nex),
  };
}
