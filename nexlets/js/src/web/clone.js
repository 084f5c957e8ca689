// structuredClone.
(host, need) => {
  const refuse = value => {
    throw new DOMException(`${typeof value === "symbol" ? "a symbol" : "a function"} cannot be cloned`, "DataCloneError");
  };
  const errors = { EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };

  const structuredClone = (root, options) => {
    if (options?.transfer?.length) refuse.call(null, () => {});
    const seen = new Map();
    const copy = value => {
      if (typeof value === "function" || typeof value === "symbol") refuse(value);
      if (typeof value !== "object" || value === null) return value;
      if (seen.has(value)) return seen.get(value);
      const keep = made => { seen.set(value, made); return made };
      if (Array.isArray(value)) {
        const made = keep(new Array(value.length));
        for (const key of Object.keys(value)) made[key] = copy(value[key]);
        return made;
      }
      if (value instanceof Date) return keep(new Date(value.getTime()));
      if (value instanceof RegExp) return keep(new RegExp(value.source, value.flags));
      if (value instanceof Map) {
        const made = keep(new Map());
        for (const [k, v] of [...value]) made.set(copy(k), copy(v));
        return made;
      }
      if (value instanceof Set) {
        const made = keep(new Set());
        for (const one of [...value]) made.add(copy(one));
        return made;
      }
      if (value instanceof ArrayBuffer) return keep(value.slice(0));
      if (ArrayBuffer.isView(value)) {
        const length = value instanceof DataView ? value.byteLength : value.length;
        return keep(new value.constructor(copy(value.buffer), value.byteOffset, length));
      }
      if (value instanceof Error) {
        const made = keep(new (errors[value.name] ?? Error)(value.message));
        made.stack = value.stack;
        if ("cause" in value) made.cause = copy(value.cause);
        return made;
      }
      if (value instanceof Boolean || value instanceof Number || value instanceof String) {
        return keep(Object(value.valueOf()));
      }
      if (value instanceof Promise || value instanceof WeakMap || value instanceof WeakSet || value instanceof WeakRef) {
        throw new DOMException(`a ${value.constructor.name} cannot be cloned`, "DataCloneError");
      }
      const made = keep({});
      for (const key of Object.keys(value)) made[key] = copy(value[key]);
      return made;
    };
    return copy(root);
  };
  return { structuredClone };
}
