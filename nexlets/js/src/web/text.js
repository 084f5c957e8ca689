// TextEncoder and TextDecoder, for UTF-8.
(host, need) => {
  const bytesOf = source => {
    if (source === undefined) return new Uint8Array(0);
    if (source instanceof Uint8Array) return source;
    if (ArrayBuffer.isView(source)) return new Uint8Array(source.buffer, source.byteOffset, source.byteLength);
    if (source instanceof ArrayBuffer) return new Uint8Array(source);
    throw new TypeError("want an ArrayBuffer, a typed array or a DataView");
  };

  class TextEncoder {
    get encoding() { return "utf-8" }
    encode(text = "") { return host.encode(String(text)) }
    encodeInto(text, target) {
      let read = 0, written = 0;
      for (const char of String(text)) {
        const bytes = host.encode(char);
        if (written + bytes.length > target.length) break;
        target.set(bytes, written);
        written += bytes.length;
        read += char.length;
      }
      return { read, written };
    }
  }

  class TextDecoder {
    #fatal; #keepMark; #rest = new Uint8Array(0); #begun = false;
    constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
      if (!["utf-8", "utf8", "unicode-1-1-utf-8"].includes(String(label).trim().toLowerCase())) {
        throw new RangeError(`the encoding \`${label}\` is not known: want \`utf-8\``);
      }
      this.#fatal = Boolean(fatal);
      this.#keepMark = Boolean(ignoreBOM);
    }
    get encoding() { return "utf-8" }
    get fatal() { return this.#fatal }
    get ignoreBOM() { return this.#keepMark }
    decode(source, { stream = false } = {}) {
      let bytes = bytesOf(source);
      if (this.#rest.length) {
        const joined = new Uint8Array(this.#rest.length + bytes.length);
        joined.set(this.#rest);
        joined.set(bytes, this.#rest.length);
        bytes = joined;
      }
      const [text, used] = host.decode(bytes, this.#fatal, Boolean(stream));
      this.#rest = bytes.slice(used);
      const first = !this.#begun;
      this.#begun = stream && (this.#begun || used > 0);
      return first && !this.#keepMark && text[0] === "\ufeff" ? text.slice(1) : text;
    }
  }

  return { TextEncoder, TextDecoder, bytesOf };
}
