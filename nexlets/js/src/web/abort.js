// AbortController and AbortSignal.
(host, need) => {
  const make = Symbol();

  class AbortSignal {
    #listeners = new Map(); #aborted = false; #reason;
    onabort = null;
    constructor(key) {
      if (key !== make) throw new TypeError("use `new AbortController().signal`");
    }
    get aborted() { return this.#aborted }
    get reason() { return this.#reason }
    throwIfAborted() { if (this.#aborted) throw this.#reason }
    addEventListener(type, listener, options) {
      if (type === "abort" && listener) this.#listeners.set(listener, Boolean(options?.once));
    }
    removeEventListener(type, listener) { if (type === "abort") this.#listeners.delete(listener) }
    dispatchEvent(event) {
      for (const [listener, once] of [...this.#listeners]) {
        if (once) this.#listeners.delete(listener);
        typeof listener === "function" ? listener.call(this, event) : listener.handleEvent(event);
      }
      if (typeof this.onabort === "function") this.onabort(event);
      return true;
    }
    static abort(reason) {
      const signal = new AbortSignal(make);
      AbortSignal[make](signal, reason);
      return signal;
    }
    static timeout(millis) {
      const signal = new AbortSignal(make);
      const reason = new DOMException("the time is over", "TimeoutError");
      host.timer(() => AbortSignal[make](signal, reason), Number(millis), false);
      return signal;
    }
    static any(signals) {
      const any = new AbortSignal(make);
      for (const signal of signals) {
        const follow = () => AbortSignal[make](any, signal.reason);
        signal.aborted ? follow() : signal.addEventListener("abort", follow, { once: true });
      }
      return any;
    }
    static [make](signal, reason = new DOMException("it was aborted", "AbortError")) {
      if (signal.#aborted) return;
      signal.#aborted = true;
      signal.#reason = reason;
      signal.dispatchEvent({ type: "abort", target: signal });
    }
  }

  class AbortController {
    #signal = new AbortSignal(make);
    get signal() { return this.#signal }
    abort(reason) { AbortSignal[make](this.#signal, reason) }
  }

  return { AbortController, AbortSignal };
}
