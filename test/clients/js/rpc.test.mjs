import { test } from 'node:test'
import assert from 'node:assert/strict'
import { client, got, refused, rows, tokens } from './fleet.mjs'

const db = client()

for (const options of [{}, { get: true }]) {
  const verb = options.get ? 'GET' : 'POST'
  test(`rpc by ${verb}: scalars, defaults, arrays, OUT parameters`, async () => {
    assert.equal(await rows(db.rpc('add', { a: 1, b: 2 }, options)), 3)
    assert.equal(await rows(db.rpc('add', { a: 1 }, options)), 2)
    assert.equal(await rows(db.rpc('total', { numbers: [1, 2, 3] }, options)), 6)
    if (!options.get) assert.equal(await rows(db.rpc('total_of', { numbers: [1, 2, 3] })), 6)
    assert.deepEqual(await rows(db.rpc('extremes', {}, options)), { oldest: 1927, newest: 2009 })
  })
  test(`rpc by ${verb}: rows with select, filters, order, pages, embedding, count`, async () => {
    const films = (columns) => db.rpc('films_of', { wanted: 'Lang' }, options).select(columns)
    assert.deepEqual(await rows(films('id').order('id')), [{ id: 1 }, { id: 2 }, { id: 7 }])
    assert.deepEqual(await rows(films('title, directors(name)').gt('year', 1927).order('year').limit(1)), [{ title: 'M', directors: { name: 'Lang' } }])
    assert.deepEqual(await rows(films('id').eq('id', 2).single()), { id: 2 })
    assert.equal((await got(db.rpc('films_of', { wanted: 'Lang' }, { ...options, count: 'exact' }))).count, 3)
  })
}

test('rpc: what it writes, and that GET writes nothing', async () => {
  const done = await got(db.rpc('remember', { who: 'rpc', what: 'a' }))
  assert.equal(done.status, 204)
  assert.equal((await rows(db.from('notes').select().eq('owner', 'rpc'))).length, 1)
  const read = await refused(db.rpc('remember', { who: 'rpc', what: 'b' }, { get: true }))
  assert.equal(read.status, 405)
  assert.equal(read.error.code, '25006')
  assert.equal((await got(db.rpc('films_of', { wanted: 'Lang' }, { head: true, count: 'exact' }))).count, 3)
})

test('rpc: no such function, raised errors', async () => {
  const none = await refused(db.rpc('ad', { a: 1 }))
  assert.equal(none.status, 404)
  assert.equal(none.error.code, 'PGRST202')
  const raised = await refused(db.rpc('refuse', { why: 'Payment Required' }))
  assert.equal(raised.status, 402)
  assert.deepEqual({ ...raised.error, name: undefined }, { code: 'PT402', message: 'Payment Required', details: 'Quota exceeded', hint: 'Upgrade your plan', name: undefined })
  assert.equal((await refused(client(tokens.viewer).rpc('remember', { who: 'rpc', what: 'c' }))).status, 403)
})

test('abort ends the request, and the connection serves on', async () => {
  const ended = await db.rpc('nap', { seconds: 20 }).abortSignal(AbortSignal.timeout(100))
  assert.match(ended.error.message, /abort|timeout/i)
  assert.equal(await rows(db.rpc('add', { a: 1, b: 2 })), 3)
})
