// What a test is told about the tenant it runs against, and what it says when an answer is not as wanted.
import assert from 'node:assert/strict'
import { PostgrestClient } from '@supabase/postgrest-js'

const { FREEHOLD_URL, FREEHOLD_EDITOR, FREEHOLD_VIEWER } = process.env
assert(FREEHOLD_URL && FREEHOLD_EDITOR && FREEHOLD_VIEWER, 'run these by `go test ./test/clients`')

export const url = FREEHOLD_URL
export const tokens = { editor: FREEHOLD_EDITOR, viewer: FREEHOLD_VIEWER }

// client is postgrest-js as an application makes it.
export const client = (token = tokens.editor) =>
  new PostgrestClient(`${url}/rest/v1`, { headers: { Authorization: `Bearer ${token}` } })

// got awaits a request that must succeed, and gives its answer.
export async function got(request) {
  const answer = await request
  assert.equal(answer.error, null, JSON.stringify(answer.error))
  return answer
}

// rows awaits a request that must succeed, and gives its data.
export const rows = async (request) => (await got(request)).data

// ids are those of the films that a request finds.
export const ids = async (request) => (await rows(request)).map((row) => row.id)

// refused awaits a request that must fail, and gives its answer; the error has all four parts.
export async function refused(request) {
  const answer = await request
  assert(answer.error, `not refused: ${JSON.stringify(answer.data)}`)
  assert.equal(answer.data, null)
  assert.deepEqual(Object.keys(answer.error).filter((k) => k !== 'name').sort(), ['code', 'details', 'hint', 'message'])
  return answer
}
