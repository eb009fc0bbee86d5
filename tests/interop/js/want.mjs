// Want (protocols/want/1), the asker's side: blocks by name, records by primary key.

import { equal, hex } from './bytes.mjs'
import { digest, fieldsOf } from './block.mjs'
import { must } from './errors.mjs'

export const PROTOCOL = '/rhizome/want/1'
export const BUDGET_MAX = 4194304

export class Want {
  // `links`: the names of all that is wanted; a record that is wanted by its key has one too.
  constructor (links, request) {
    this.links = links
    this.request = request
    this.budget = Math.min(Number(request.budget), BUDGET_MAX)
    this.blocks = []
    this.bytes = 0
    this.complete = false
  }

  static blocks (links, budget = BUDGET_MAX, packed = true) {
    return new Want(links, { cids: links, budget: BigInt(budget), packed })
  }

  // `root`: that of a collection's primary; `keys`: primary keys in it, the keys of `links`.
  static records (root, keys, links, budget = BUDGET_MAX, packed = true) {
    return new Want(links, { root, keys, budget: BigInt(budget), packed })
  }

  open () {
    must(false, 'an opening in an answer that has none')
  }

  block (bytes) {
    must(this.blocks.length < this.links.length, 'more items than were wanted')
    const { digest: wanted } = this.links[this.blocks.length]
    must(bytes === null || equal(digest(bytes), wanted), `another block than ${hex(wanted)}`)
    this.bytes += bytes?.length ?? 0
    must(this.blocks.length === 0 || this.bytes <= this.budget, 'bytes beyond the budget')
    this.blocks.push(bytes)
  }

  end (fields) {
    const { sent } = fieldsOf(fields, ['sent'])
    must(this.blocks.length >= 1 && sent === BigInt(this.blocks.length), 'an end that miscounts')
    this.complete = this.blocks.length === this.links.length
  }
}
