import { test } from 'node:test'
import assert from 'node:assert/strict'
import { client, got, refused, rows, tokens } from './fleet.mjs'

const db = client()
const notes = () => db.from('notes')
const of = async (owner) => rows(notes().select('body, stars').eq('owner', owner).order('body'))

test('insert: minimal, representation, chosen columns', async () => {
  const owner = 'insert'
  const quiet = await got(notes().insert({ owner, body: 'a' }))
  assert.equal(quiet.status, 201)
  assert.equal(quiet.data, null)
  const [told] = await rows(notes().insert({ owner, body: 'b', stars: 3 }).select())
  assert.equal(told.stars, 3)
  assert.equal(typeof told.id, 'number')
  assert.deepEqual(await rows(notes().insert({ owner, body: 'c' }).select('owner, body').single()), { owner, body: 'c' })
  assert.deepEqual((await of(owner)).map((n) => n.body), ['a', 'b', 'c'])
})

test('insert: bulk, count, defaults of what is missing', async () => {
  const owner = 'bulk'
  const many = await got(notes().insert(Array.from({ length: 500 }, (_, i) => ({ owner, body: `n${i}` })), { count: 'exact' }))
  assert.equal(many.count, 500)
  assert.equal((await of(owner)).length, 500)
  const mixed = [{ owner: 'mixed', stars: 1 }, { owner: 'mixed2', body: 'x', stars: 2 }]
  const nulls = await rows(notes().insert(mixed).select('body'))
  assert.deepEqual(nulls, [{ body: null }, { body: 'x' }])
  const filled = await rows(notes().insert([{ owner: 'mixed3', stars: 1 }, { owner: 'mixed3', body: 'x' }], { defaultToNull: false }).select('body'))
  assert.deepEqual(filled, [{ body: 'empty' }, { body: 'x' }])
})

test('upsert: by a unique key, merging and ignoring', async () => {
  const owner = 'upsert'
  await got(notes().insert([{ owner, body: 'a', stars: 1 }, { owner, body: 'b', stars: 1 }]))
  const merged = await rows(notes().upsert([{ owner, body: 'a', stars: 5 }, { owner, body: 'c', stars: 5 }], { onConflict: 'owner,body' }).select('body, stars').order('body'))
  assert.deepEqual(merged, [{ body: 'a', stars: 5 }, { body: 'c', stars: 5 }])
  const ignored = await rows(notes().upsert({ owner, body: 'b', stars: 4 }, { onConflict: 'owner,body', ignoreDuplicates: true }).select())
  assert.deepEqual(ignored, [])
  assert.deepEqual(await of(owner), [{ body: 'a', stars: 5 }, { body: 'b', stars: 1 }, { body: 'c', stars: 5 }])
  const id = (await rows(notes().select('id').match({ owner, body: 'a' }).single())).id
  await got(notes().upsert({ id, owner, body: 'a2' }))
  assert.equal((await rows(notes().select('body').eq('id', id).single())).body, 'a2')
})

test('update and delete: filters, representation, count, bound', async () => {
  const owner = 'update'
  await got(notes().insert(['a', 'b', 'c'].map((body) => ({ owner, body, stars: 1 }))))
  const quiet = await got(notes().update({ stars: 2 }).match({ owner, body: 'a' }))
  assert.equal(quiet.status, 204)
  assert.deepEqual(await rows(notes().update({ stars: 3 }).eq('owner', owner).in('body', ['b', 'c']).select('body, stars').order('body')), [{ body: 'b', stars: 3 }, { body: 'c', stars: 3 }])
  assert.deepEqual(await rows(notes().update({ stars: 1 }).eq('owner', 'nobody').select()), [])
  assert.equal((await got(notes().update({ stars: 4 }, { count: 'exact' }).eq('owner', owner))).count, 3)
  const bounded = await refused(notes().delete().eq('owner', owner).maxAffected(2))
  assert.equal(bounded.error.code, 'PGRST124')
  assert.equal((await of(owner)).length, 3)
  assert.deepEqual(await rows(notes().delete().match({ owner, body: 'a' }).select('body')), [{ body: 'a' }])
  assert.equal((await got(notes().delete({ count: 'exact' }).eq('owner', owner))).count, 2)
  assert.deepEqual(await of(owner), [])
})

test('rollback leaves nothing behind', async () => {
  assert.equal((await rows(notes().insert({ owner: 'undone', body: 'a' }).select().rollback())).length, 1)
  assert.deepEqual(await of('undone'), [])
})

test('what Postgres refuses', async () => {
  await got(notes().insert({ owner: 'refused', body: 'a' }))
  const twice = await refused(notes().insert({ owner: 'refused', body: 'a' }))
  assert.equal(twice.status, 409)
  assert.equal(twice.error.code, '23505')
  assert.match(twice.error.details, /already exists/)
  assert.equal((await refused(notes().insert({ owner: 'refused', stars: 9 }))).error.code, '23514')
  assert.equal((await refused(notes().insert({ body: 'b' }))).error.code, '23502')
  const foreign = await refused(db.from('films').insert({ title: 'x', year: 1, director_id: 999 }))
  assert.equal(foreign.status, 409)
  assert.equal(foreign.error.code, '23503')
  const unknown = await refused(notes().insert({ owner: 'refused', colour: 'red' }))
  assert.equal(unknown.status, 400)
  assert.equal(unknown.error.code, 'PGRST204')
  const viewer = await refused(client(tokens.viewer).from('notes').insert({ owner: 'refused', body: 'b' }))
  assert.equal(viewer.status, 403)
  assert.equal(viewer.error.code, '42501')
})
