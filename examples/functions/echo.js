// Answers with the request's own payload, byte for byte: a Uint8Array goes back as it is.
//
//   nex devrun examples/functions/echo.js --trigger-subject echo.bytes
//   nex req echo.bytes 'any payload'
(subject, payload) => payload;
