// What can go wrong, told by whose fault it is.

// The peer sent what the specifications say must be refused.
export class Refused extends Error {}

// The peer answered with an error of message/1: not a lie, but no answer either.
export class PeerError extends Error {
  constructor (code, text) {
    super(`${code}: ${text}`)
    this.code = code
  }
}

// Whoever called this program asked for something that cannot be.
export class UsageError extends Error {}

export function must (holds, what) {
  if (!holds) throw new Refused(what)
}
