// supabase-js sends its key twice, as `apikey` and as bearer token, and finds
// the API below the URL that it is given.
import { after, test } from 'node:test'
import assert from 'node:assert/strict'
import { createClient } from '@supabase/supabase-js'
import ws from 'ws'
import { got, refused, rows, tokens, url } from './fleet.mjs'

const options = {
  auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
  realtime: { transport: globalThis.WebSocket ?? ws }, // which it wants on Node.js before 22, whether it is used or not
}
const key = process.env.FREEHOLD_KEY
const db = createClient(url, key, options)
after(() => db.removeAllChannels())

test('a key is all it needs', async () => {
  assert.deepEqual(await rows(db.from('films').select('title, directors(name)').eq('id', 3).single()), { title: '2001: A Space Odyssey', directors: { name: 'Kubrick' } })
  const me = await rows(db.rpc('whoami'))
  assert.match(me.client, /^supabase-js/)
  assert.equal(me.tenant, process.env.FREEHOLD_TENANT)

  const byToken = createClient(url, tokens.viewer, options) // which is as good as a key
  assert.equal((await rows(byToken.from('films').select('id'))).length, 8)
})

test('writes, counts, pages', async () => {
  const owner = 'supabase'
  await got(db.from('notes').insert([{ owner, body: 'a' }, { owner, body: 'b' }, { owner, body: 'c' }]))
  const page = await got(db.from('notes').select('body', { count: 'exact' }).eq('owner', owner).order('body').range(1, 2))
  assert.deepEqual(page.data, [{ body: 'b' }, { body: 'c' }])
  assert.equal(page.count, 3)
  assert.deepEqual(await rows(db.from('notes').update({ stars: 1 }).match({ owner, body: 'a' }).select('stars')), [{ stars: 1 }])
  assert.deepEqual(await rows(db.from('notes').upsert({ owner, body: 'a', stars: 2 }, { onConflict: 'owner,body' }).select('stars')), [{ stars: 2 }])
  await got(db.from('notes').delete().eq('owner', owner))
  assert.equal((await got(db.from('notes').select('*', { count: 'exact', head: true }).eq('owner', owner))).count, 0)
})

test('a token of a user beside the key', async () => {
  const user = createClient(url, key, { ...options, accessToken: async () => tokens.viewer })
  assert.equal((await rows(user.from('films').select('id'))).length, 8)
  assert.equal((await refused(user.from('notes').insert({ owner: 'x' }))).status, 403)
})

test('a key that is none', async () => {
  const nobody = createClient(url, 'no.such.key', options)
  const answer = await refused(nobody.from('films').select())
  assert.equal(answer.status, 401)
})
