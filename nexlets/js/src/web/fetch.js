// fetch, Request and Response. Bodies are there as a whole; there are no streams.
(host, need) => {
  const { Headers, headersOf } = need("headers");
  const { bytesOf } = need("text");
  const E = Error, T = TypeError;
  const methods = /^(delete|get|head|options|post|put|patch)$/i;

  const bodyBytes = (body, headers) => {
    if (body === undefined || body === null) return null;
    const type = text => { if (!headers.has("content-type")) headers.set("content-type", text) };
    if (typeof body === "object" && (ArrayBuffer.isView(body) || body instanceof ArrayBuffer)) return bytesOf(body).slice();
    if (Object.prototype.toString.call(body) === "[object Object]" && body instanceof need("url").URLSearchParams) {
      type("application/x-www-form-urlencoded;charset=UTF-8");
    } else {
      type("text/plain;charset=UTF-8");
    }
    return host.encode(String(body));
  };

  class Body {
    #bytes; #used = false;
    constructor(bytes) { this.#bytes = bytes }
    static bytesOf(body) { return body.#bytes }
    get bodyUsed() { return this.#used }
    #take() {
      if (this.#used) throw new T("the body was read already");
      this.#used = this.#bytes !== null;
      return this.#bytes ?? new Uint8Array(0);
    }
    async bytes() { return this.#take() }
    async arrayBuffer() { const bytes = this.#take(); return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) }
    async text() { return host.decode(this.#take(), false, false)[0].replace(/^\ufeff/, "") }
    async json() { return JSON.parse(await this.text()) }
  }

  class Request extends Body {
    #method; #url; #headers; #signal;
    constructor(input, init = {}) {
      const from = input instanceof Request ? input : null;
      const headers = new Headers(init.headers ?? from?.headers);
      const body = init.body === undefined ? from && Body.bytesOf(from) : bodyBytes(init.body, headers);
      super(body);
      const method = String(init.method ?? from?.method ?? "GET");
      this.#method = methods.test(method) ? method.toUpperCase() : method;
      if (body !== null && /^(GET|HEAD)$/.test(this.#method)) throw new T(`a request with ${this.#method} has no body`);
      if (init.redirect !== undefined && init.redirect !== "follow") throw new T("redirects are followed here: `redirect` can be `follow` only");
      this.#url = from ? from.url : new (need("url").URL)(input).href;
      this.#headers = headers;
      this.#signal = init.signal ?? from?.signal ?? null;
    }
    get method() { return this.#method }
    get url() { return this.#url }
    get headers() { return this.#headers }
    get signal() { return this.#signal }
    get redirect() { return "follow" }
    clone() { return new Request(this) }
  }

  class Response extends Body {
    #status; #statusText; #headers; #url = ""; #redirected = false;
    constructor(body, { status = 200, statusText = "", headers } = {}) {
      headers = new Headers(headers);
      super(bodyBytes(body, headers));
      if (!(status >= 200 && status <= 599)) throw new RangeError("want a status from 200 to 599");
      this.#status = status;
      this.#statusText = String(statusText);
      this.#headers = headers;
    }
    static json(value, init = {}) {
      const headers = new Headers(init.headers);
      if (!headers.has("content-type")) headers.set("content-type", "application/json");
      return new Response(JSON.stringify(value), { ...init, headers });
    }
    static from(answer, url) {
      const response = new Response(answer.body.length ? answer.body : null, { status: Math.max(200, answer.status) });
      response.#headers = headersOf(answer.headers);
      response.#url = answer.url;
      response.#redirected = answer.url !== url;
      return response;
    }
    get status() { return this.#status }
    get statusText() { return this.#statusText }
    get ok() { return this.#status < 300 }
    get headers() { return this.#headers }
    get url() { return this.#url }
    get redirected() { return this.#redirected }
    get type() { return "default" }
    clone() {
      const copy = new Response(Body.bytesOf(this), { status: this.#status, statusText: this.#statusText });
      copy.#headers = new Headers(this.#headers);
      copy.#url = this.#url;
      copy.#redirected = this.#redirected;
      return copy;
    }
  }
  const answered = Response.from;
  delete Response.from;

  const fetch = async (input, init) => {
    const place = new E("");
    const request = new Request(input, init);
    const { signal, url } = request;
    signal?.throwIfAborted();
    const body = Body.bytesOf(request) ?? undefined;
    const call = {};
    const asked = host.ask(place, "http", request.method, url, [...request.headers], body, call);
    let abort;
    const aborted = signal && new Promise((_, reject) => {
      abort = () => { host.cancel(call.id); reject(signal.reason) };
      signal.addEventListener("abort", abort);
    });
    try {
      return answered(await (signal ? Promise.race([asked, aborted]) : asked), url);
    } catch (error) {
      if (error !== place) throw error;
      const failed = new T(place.message, { cause: place });
      failed.code = place.code;
      failed.stack = place.stack;
      throw failed;
    } finally {
      if (signal) signal.removeEventListener("abort", abort);
    }
  };

  const bodyOf = value => value instanceof Response ? Body.bytesOf(value) ?? undefined : value;
  return { fetch, Request, Response, bodyOf };
}
