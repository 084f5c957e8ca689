// Greets whoever is named in the payload.
//
//   nex devrun examples/functions/greet.js --trigger-subject greet
//   nex req greet world
(subject, payload) => {
  const name = String.fromCharCode(...payload).trim() || "stranger";
  console.log(`greeting ${name} on ${subject}`);
  return { greeting: `Hello, ${name}!`, subject };
};
