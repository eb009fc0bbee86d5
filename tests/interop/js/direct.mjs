// A peer of js-libp2p with DCUtR: `node direct.mjs reach MULTIADDR [LISTEN]` reaches a peer through its relay, and
// `node direct.mjs wait MULTIADDR [LISTEN]` is reached through this relay. Prints lines of JSON: its addresses, and who
// opened the direct connection, when there is one. Runs until its input ends.

import './node20.mjs'
import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { circuitRelayTransport } from '@libp2p/circuit-relay-v2'
import { dcutr } from '@libp2p/dcutr'
import { identify } from '@libp2p/identify'
import { tcp } from '@libp2p/tcp'
import { webSockets } from '@libp2p/websockets'
import { multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'

const WAIT_MILLISECONDS = 20000
const [role, address, ...listen] = process.argv.slice(2)
const relay = address.split('/p2p-circuit')[0].split('/').at(-1)
const say = (what) => console.log(JSON.stringify(what))

const node = await createLibp2p({
  // Appended: else it does not tell public addresses that nobody has confirmed to be its own.
  addresses: { appendAnnounce: listen, listen: role === 'wait' ? [`${address}/p2p-circuit`, ...listen] : listen },
  transports: [tcp(), webSockets(), circuitRelayTransport()],
  connectionEncrypters: [noise()],
  streamMuxers: [yamux()],
  services: { identify: identify(), dcutr: dcutr() }
})
node.addEventListener('connection:open', ({ detail }) => {
  const isRelayed = String(detail.remoteAddr).includes('/p2p-circuit')
  if (!isRelayed && String(detail.remotePeer) !== relay) say({ direct: detail.direction })
})
say({ addresses: node.getMultiaddrs().map(String) })
if (role === 'reach') await node.dial(multiaddr(address), { signal: AbortSignal.timeout(WAIT_MILLISECONDS) })
process.stdin.resume()
process.stdin.on('end', () => node.stop())
