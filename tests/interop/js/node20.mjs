// What Node.js 20 lacks of what libp2p takes for granted. Newer ones keep their own.

import { WebSocket } from 'ws'

// A message may come together with the answer to the handshake: then libp2p must have seen `open` before `message`,
// as in a browser, where each event is a task of its own.
class PatientWebSocket extends WebSocket {
  constructor (url, protocols) {
    super(url, protocols, { allowSynchronousEvents: false })
  }
}

globalThis.WebSocket ??= PatientWebSocket

Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new this((...both) => { [resolve, reject] = both })
  return { promise, resolve, reject }
}
