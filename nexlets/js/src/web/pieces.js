// Makes the globals of the web come into being when they are first used: a function that uses none
// pays for none. Its value takes the host's functions and returns how the nexlet gets at pieces.
(host, compile, names) => {
  const pieces = {};
  // The exports of a piece; its source is a function of the host and of this one.
  const need = name => pieces[name] ??= compile(name)(host, need);
  const define = (name, value, enumerable) => Object.defineProperty(globalThis, name,
    { value, enumerable, writable: true, configurable: true });
  for (const [name, piece] of names) {
    Object.defineProperty(globalThis, name, {
      configurable: true,
      enumerable: false,
      get() {
        const value = need(piece)[name];
        define(name, value, false);
        return value;
      },
      set(value) { define(name, value, true) },
    });
  }
  // A result as what it is sent as: a response is its body.
  const result = value => pieces.fetch ? pieces.fetch.bodyOf(value) : value;
  return { need, result };
}
