// Counts how often each name was sent, however many replicas do so at the same time.
//
//   nex devrun examples/functions/count.mjs --trigger-subject count
//   nex req count '{"name":"ada"}'
export default async (request, nex) => {
  const counts = nex.kv("counts");
  const { name } = request.json();
  for (;;) {
    try {
      const { value, revision } = await counts.entry(name);
      const next = Number(new TextDecoder().decode(value)) + 1;
      await counts.update(name, String(next), revision);
      return { name, count: next };
    } catch (error) {
      if (error.code === "not_found") await counts.create(name, "0").catch(() => {});
      else if (error.code !== "conflict") throw error;
    }
  }
};
