// Timers. Those that are left when the result is there are dropped.
(host, need) => {
  const set = repeat => (callback, delay = 0, ...values) => {
    if (typeof callback !== "function") throw new TypeError("want a function");
    return host.timer(() => callback(...values), Number(delay) || 0, repeat);
  };
  const clear = id => { if (typeof id === "number") host.clearTimer(id) };
  return { setTimeout: set(false), setInterval: set(true), clearTimeout: clear, clearInterval: clear };
}
