import { test } from 'node:test'
import assert from 'node:assert/strict'
import { neon, neonConfig } from '@neondatabase/serverless'

const { FREEHOLD_URL, FREEHOLD_TENANT, FREEHOLD_VIEWER, FREEHOLD_SQL_OWNER, FREEHOLD_SQL_EDITOR, FREEHOLD_SQL_VIEWER } = process.env
neonConfig.fetchEndpoint = `${FREEHOLD_URL}/sql`

const connect = (authToken, options = {}) => neon(`postgresql://api@localhost/${FREEHOLD_TENANT}`, { authToken, ...options })
const owner = connect(FREEHOLD_SQL_OWNER)
const editor = connect(FREEHOLD_SQL_EDITOR)
const viewer = connect(FREEHOLD_SQL_VIEWER)

test('types come back as JavaScript has them', async () => {
  const [row] = await viewer`SELECT ${7}::int AS i, ${'x'}::text AS t, ${true}::bool AS b, ${null}::text AS n,
    ${[1, 2]}::int[] AS a, ${{ k: [1] }}::jsonb AS j, '2026-01-02T03:04:05Z'::timestamptz AS at, 9007199254740993::int8 AS big, '\\x00ff'::bytea AS bytes`
  assert.deepEqual({ ...row, at: row.at.toISOString(), bytes: [...row.bytes] },
    { i: 7, t: 'x', b: true, n: null, a: [1, 2], j: { k: [1] }, at: '2026-01-02T03:04:05.000Z', big: '9007199254740993', bytes: [0, 255] })
})

test('full results and array mode', async () => {
  const full = await viewer.query('SELECT $1::int AS a, 2 AS b', [1], { fullResults: true, arrayMode: true })
  assert.equal(full.command, 'SELECT')
  assert.equal(full.rowCount, 1)
  assert.deepEqual(full.rows, [[1, 2]])
  assert.deepEqual(full.fields.map((f) => [f.name, f.dataTypeID]), [['a', 23], ['b', 23]])
})

test('an owner makes, an editor writes, a viewer reads', async () => {
  await owner`CREATE TABLE IF NOT EXISTS neon_notes (id int PRIMARY KEY, body text)`
  await editor.transaction([editor`DELETE FROM neon_notes`, editor`INSERT INTO neon_notes VALUES (1, ${"it's"}), (2, ${null})`])
  assert.deepEqual(await viewer`SELECT * FROM neon_notes ORDER BY id`, [{ id: 1, body: "it's" }, { id: 2, body: null }])
  await assert.rejects(viewer`DELETE FROM neon_notes`, (e) => e.name === 'NeonDbError' && ['25006', '42501'].includes(e.code))
  await assert.rejects(editor`DROP TABLE neon_notes`, (e) => e.code === '42501')
})

test('transactions: all or nothing, and their options', async () => {
  await assert.rejects(editor.transaction([editor`INSERT INTO neon_notes VALUES (9, 'x')`, editor`SELECT 1/0`]), (e) => e.code === '22012')
  assert.deepEqual(await viewer`SELECT id FROM neon_notes WHERE id = 9`, [])
  const show = editor`SELECT current_setting('transaction_isolation') AS i, current_setting('transaction_read_only') AS r, current_setting('transaction_deferrable') AS d`
  const [[got]] = await editor.transaction([show], { isolationLevel: 'Serializable', readOnly: true, deferrable: true })
  assert.deepEqual(got, { i: 'serializable', r: 'on', d: 'on' })
  await assert.rejects(editor.transaction([editor`INSERT INTO neon_notes VALUES (9, 'x')`], { readOnly: true }), (e) => e.code === '25006')
})

test('errors have their fields', async () => {
  await assert.rejects(viewer`SELECT nosuch FROM neon_notes`, (e) => {
    assert.equal(e.name, 'NeonDbError')
    assert.match(e.message, /nosuch/)
    assert.equal(e.code, '42703')
    assert.equal(e.position, '8')
    assert.equal(e.severity, 'ERROR')
    return true
  })
  await assert.rejects(editor`INSERT INTO neon_notes VALUES (1, 'again')`, (e) => e.code === '23505' && e.constraint === 'neon_notes_pkey' && /already exists/.test(e.detail))
  await assert.rejects(editor`COMMIT`, (e) => e.code === '0A000' && /batch/.test(e.hint))
})

test('who may not is refused', async () => {
  await assert.rejects(connect(FREEHOLD_VIEWER)`SELECT 1`, /403/)
  await assert.rejects(neon('postgresql://api@localhost/another-tenant', { authToken: FREEHOLD_SQL_VIEWER })`SELECT 1`, /403/)
  await assert.rejects(neon('postgresql://api:nonsense@localhost/main')`SELECT 1`, /401/)
})
