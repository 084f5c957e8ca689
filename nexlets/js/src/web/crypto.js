// Random numbers and digests.
(host, need) => {
  const { bytesOf } = need("text");
  const subtle = {
    async digest(algorithm, data) {
      const name = String(algorithm?.name ?? algorithm).toUpperCase();
      const digest = host.digest(name, bytesOf(data));
      if (!digest) {
        throw new DOMException(`the digest \`${name}\` is not known: want SHA-1, SHA-256, SHA-384 or SHA-512`, "NotSupportedError");
      }
      return digest.buffer;
    },
  };
  const crypto = {
    subtle,
    randomUUID: () => host.uuid(),
    getRandomValues(array) {
      if (!ArrayBuffer.isView(array) || /^(Float|DataView)/.test(array[Symbol.toStringTag] ?? "DataView")) {
        throw new DOMException("want an array of whole numbers", "TypeMismatchError");
      }
      if (array.byteLength > 65536) {
        throw new DOMException("want at most 65536 bytes", "QuotaExceededError");
      }
      bytesOf(array).set(host.random(array.byteLength));
      return array;
    },
  };
  return { crypto };
}
