// Reaches one peer of js-libp2p from another, through a relay: `node relayed.mjs MULTIADDR`, the relay's. Prints one
// line of JSON: what came back over the circuit, and the limit that the connection has.

import './node20.mjs'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const WAIT_MILLISECONDS = 20000
const ECHO = '/echo/1'
const SAID = 'x'.repeat(100000)

const join = (listen) => createLibp2p({
  addresses: { listen },
  transports: [tcp(), webSockets(), circuitRelayTransport()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify() }
})

async function echo (stream) {
  for await (const bytes of stream) if (!stream.send(bytes)) await stream.onDrain()
  await stream.close()
}

async function exchange (connection) {
  const signal = AbortSignal.timeout(WAIT_MILLISECONDS)
  const stream = await connection.newStream(ECHO, { runOnLimitedConnection: true, signal })
  stream.send(new TextEncoder().encode(SAID))
  let heard = ''
  for await (const bytes of stream) {
    heard += new TextDecoder().decode(bytes.subarray())
    if (heard.length === SAID.length) break
  }
  await stream.close({ signal })
  return heard === SAID
}

const relay = multiaddr(process.argv[2])
const nodes = []
try {
  const behind = await join([`${relay}/p2p-circuit`])
  nodes.push(behind)
  await behind.handle(ECHO, echo, { runOnLimitedConnection: true })
  const asking = await join([])
  nodes.push(asking)
  const target = multiaddr(`${relay}/p2p-circuit/p2p/${behind.peerId}`)
  const connection = await asking.dial(target, { signal: AbortSignal.timeout(WAIT_MILLISECONDS) })
  const { bytes, seconds } = connection.limits ?? {}
  console.log(JSON.stringify({
    addresses: behind.getMultiaddrs().map(String),
    same: await exchange(connection),
    bytes: Number(bytes),
    seconds
  }))
} finally {
  await Promise.all(nodes.map((node) => node.stop()))
}
