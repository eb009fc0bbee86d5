// A connection to one peer, and conversations over it: the only file that knows of libp2p.

import './node20.mjs'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { must } from './errors.mjs'
import { Frames, Replies, requestFrame } from './message.mjs'

const WAIT_MILLISECONDS = 30000

export class Peer {
  // `address`: a multiaddr that ends in /p2p/ and the peer's id, which the handshake then proves.
  static async dial (address) {
    const node = await createLibp2p({
      transports: [tcp(), webSockets(), circuitRelayTransport()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      services: { identify: identify() }
    })
    try {
      const connection = await node.dial(multiaddr(address), { signal: AbortSignal.timeout(WAIT_MILLISECONDS) })
      return new Peer(node, connection)
    } catch (error) {
      await node.stop()
      throw error
    }
  }

  constructor (node, connection) {
    Object.assign(this, { node, connection, streams: new Map() })
  }

  // One request of a protocol, and all that the peer replies to it. A protocol's stream is kept for the next one.
  async converse (protocol, conversation) {
    const stream = await this.stream(protocol)
    const number = stream.requests++
    const replies = new Replies(number, conversation)
    await stream.send(requestFrame(number, conversation.request))
    while (!replies.ended) replies.receive(await stream.receive())
    return conversation
  }

  async stream (protocol) {
    if (!this.streams.has(protocol)) {
      const signal = AbortSignal.timeout(WAIT_MILLISECONDS)
      const stream = await this.connection.newStream(protocol, { runOnLimitedConnection: true, signal })
      this.streams.set(protocol, new FrameStream(stream))
    }
    return this.streams.get(protocol)
  }

  async close () {
    await this.node.stop()
  }
}

class FrameStream {
  constructor (stream) {
    this.requests = 0
    this.stream = stream
    this.stream.inactivityTimeout = WAIT_MILLISECONDS
    this.bodies = this.read()
  }

  async * read () {
    const frames = new Frames()
    for await (const bytes of this.stream) yield * frames.receive(bytes.subarray())
    frames.mustBeEmpty()
  }

  async send (bytes) {
    if (!this.stream.send(bytes)) await this.stream.onDrain({ signal: AbortSignal.timeout(WAIT_MILLISECONDS) })
  }

  async receive () {
    const { done, value } = await this.bodies.next()
    must(!done, 'a stream that ends within an answer')
    return value
  }
}
