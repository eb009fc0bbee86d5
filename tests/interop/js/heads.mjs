// Heads exchange (protocols/heads/1), the asker's side.

import { fieldsOf, isBytes } from './block.mjs'
import { must } from './errors.mjs'
import { contradict, isAddress, isPeerId, readHead } from './head.mjs'

export const PROTOCOL = '/rhizome/heads/1'
const DATASETS_MAX = 256
const PROVIDERS_MAX = 16
const PROVIDER_CHARACTERS_MAX = 512

export class Heads {
  // No addresses: ask for all that the peer serves.
  constructor (addresses = []) {
    this.addresses = addresses
    this.entries = new Map()
    this.complete = false
  }

  get request () {
    return { datasets: this.addresses }
  }

  open (fields) {
    const { datasets } = fieldsOf(fields, ['datasets'])
    must(Array.isArray(datasets) && datasets.length >= 1 && datasets.length <= DATASETS_MAX, 'no entries, or too many')
    for (const entry of datasets) this.entry(entry)
  }

  entry (entry) {
    must(Array.isArray(entry) && entry.length === 3 && entry.slice(1).every(Array.isArray), 'an entry of another form')
    const [address, envelopes, providers] = entry
    must(isAddress(address), 'an address that is none')
    must(this.addresses.length === 0 || this.addresses.includes(address), 'a dataset that was not asked about')
    must(!this.entries.has(address) && this.entries.size < DATASETS_MAX, 'a dataset twice, or too many')
    must(envelopes.length <= 2 && envelopes.every(isBytes), 'too many heads')
    const heads = envelopes.map(readHead)
    must(heads.every((head) => head.address === address), 'a head of another dataset')
    must(heads.length < 2 || contradict(...heads), 'two heads that do not contradict each other')
    must(providers.length <= PROVIDERS_MAX && providers.every(isProvider), 'providers that are none')
    this.entries.set(address, { heads, providers })
  }

  block () {
    must(false, 'a block in an answer that has none')
  }

  end (fields) {
    fieldsOf(fields, [])
    this.complete = true
  }
}

function isProvider (text) {
  if (typeof text !== 'string' || [...text].length > PROVIDER_CHARACTERS_MAX || !text.startsWith('/')) return false
  const [name, peer] = text.split('/').slice(-2)
  return name === 'p2p' && isPeerId(peer)
}
