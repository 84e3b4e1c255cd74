import { test } from 'node:test'
import assert from 'node:assert/strict'
import { client, got, ids, refused, rows, tokens } from './fleet.mjs'

const db = client(tokens.viewer)
const films = (columns = 'id') => db.from('films').select(columns).order('id')

test('select: columns, renaming, casts, JSON paths, computed fields', async () => {
  const [all] = await rows(films('*').eq('id', 1))
  assert.equal(all.title, 'Metropolis')
  assert.deepEqual(all.tags, ['silent', 'city'])
  assert.deepEqual(all.meta, { country: 'de', crew: { size: 36000 } })
  const [one] = await rows(films('name:title, year::text, meta->crew->size, country:meta->>country, tags->0, full_title').eq('id', 1))
  assert.deepEqual(one, { name: 'Metropolis', year: '1927', size: 36000, country: 'de', tags: 'silent', full_title: 'Metropolis (1927)' })
  assert.deepEqual(await rows(db.from('recent_films').select('title').eq('id', 3)), [{ title: '2001: A Space Odyssey' }])
})

// Each operator, and the films that it finds.
const operators = {
  eq: [[1], (f) => f.eq('title', 'Metropolis')],
  'eq with all that is special': [[6], (f) => f.eq('title', 'Vagabond, "Mona"')],
  'eq beyond ASCII': [[5], (f) => f.eq('title', 'Cléo from 5 to 7')],
  neq: [[2, 3, 4, 5, 6, 7, 8], (f) => f.neq('id', 1)],
  gt: [[4, 6, 8], (f) => f.gt('year', 1970)],
  gte: [[4, 6, 8], (f) => f.gte('year', 1980)],
  lt: [[1], (f) => f.lt('year', 1931)],
  lte: [[1, 2], (f) => f.lte('year', 1931)],
  like: [[1, 2], (f) => f.like('title', 'M%')],
  likeAllOf: [[1], (f) => f.likeAllOf('title', ['M%', '%s'])],
  likeAnyOf: [[1, 2, 8], (f) => f.likeAnyOf('title', ['M%', 'Orph%'])],
  ilike: [[1, 2], (f) => f.ilike('title', 'm%')],
  ilikeAllOf: [[1], (f) => f.ilikeAllOf('title', ['m%', '%S'])],
  ilikeAnyOf: [[1, 2, 8], (f) => f.ilikeAnyOf('title', ['m%', 'orph%'])],
  regexMatch: [[1, 2], (f) => f.regexMatch('title', '^M')],
  regexIMatch: [[1, 2], (f) => f.regexIMatch('title', '^m')],
  'is null': [[5, 6, 7, 8], (f) => f.is('shown', null)],
  'is true': [[1, 2, 5], (f) => f.is('restored', true)],
  'not is': [[1, 2, 3, 5, 7], (f) => f.not('restored', 'is', null)],
  isDistinct: [[2, 3, 5, 6, 7, 8], (f) => f.isDistinct('mood', 'wild')],
  in: [[1, 5], (f) => f.in('title', ['Metropolis', 'Cléo from 5 to 7'])],
  'in, quoted': [[7, 8], (f) => f.in('title', ['Orphan, a (short) film', 'The Testament of Dr. Mabuse'])],
  notIn: [[8], (f) => f.notIn('id', [1, 2, 3, 4, 5, 6, 7])],
  'contains, array': [[1, 2, 5], (f) => f.contains('tags', ['city'])],
  'contains, JSON': [[1, 2], (f) => f.contains('meta', { country: 'de' })],
  'contains, range': [[3], (f) => f.contains('shown', '[1968-05-01,1968-06-01)')],
  containedBy: [[2, 5, 6, 8], (f) => f.containedBy('tags', ['crime', 'city'])],
  overlaps: [[1, 7], (f) => f.overlaps('tags', ['silent'])],
  rangeGt: [[3, 4], (f) => f.rangeGt('shown', '[1930-01-01,1932-01-01)')],
  rangeGte: [[2, 3, 4], (f) => f.rangeGte('shown', '[1931-05-11,1931-06-01)')],
  rangeLt: [[1], (f) => f.rangeLt('shown', '[1930-01-01,1932-01-01)')],
  rangeLte: [[1, 2], (f) => f.rangeLte('shown', '[1930-01-01,1931-09-01)')],
  rangeAdjacent: [[2], (f) => f.rangeAdjacent('shown', '[1931-09-01,1932-01-01)')],
  'textSearch fts': [[3], (f) => f.textSearch('words', 'space & odyssey', { config: 'english' })],
  'textSearch plain': [[3], (f) => f.textSearch('words', 'odyssey space', { type: 'plain', config: 'english' })],
  'textSearch phrase': [[3], (f) => f.textSearch('words', 'space odyssey', { type: 'phrase', config: 'english' })],
  'textSearch websearch': [[3, 4], (f) => f.textSearch('words', 'odyssey or shining', { type: 'websearch', config: 'english' })],
  match: [[2], (f) => f.match({ year: 1931, director_id: 1 })],
  or: [[1, 8], (f) => f.or('year.lt.1930,year.gt.2000')],
  'or of and, not': [[1, 8], (f) => f.or('and(year.lt.1930,mood.eq.wild),not.and(year.lt.2000,id.gt.0)')],
  'filter, JSON path': [[3, 4], (f) => f.filter('meta->>country', 'eq', 'uk')],
  'filter, JSON number': [[1], (f) => f.gt('meta->crew->size', 200)],
  'filter, computed field': [[2], (f) => f.eq('full_title', 'M (1931)')],
  'filter, quantifier': [[1, 8], (f) => f.filter('year', 'eq(any)', '{1927,2009}')],
}
for (const [name, [want, where]] of Object.entries(operators)) {
  test(`filter: ${name}`, async () => {
    assert.deepEqual(await ids(where(films())), want)
  })
}

test('embedding: to one, to many, many to many, one to one, itself', async () => {
  const [film] = await rows(films('title, directors(name), specs(runtime), actors(name), roles(part), by:director_id(born)').eq('id', 1).order('name', { referencedTable: 'actors' }).order('part', { referencedTable: 'roles' }))
  assert.deepEqual(film, {
    title: 'Metropolis', directors: { name: 'Lang' }, specs: { runtime: 153 }, by: { born: '1890-12-05' },
    actors: [{ name: 'Helm' }, { name: 'Klein-Rogge' }], roles: [{ part: 'Maria' }, { part: 'Rotwang' }],
  })
  assert.deepEqual(await rows(films('earlier:sequel_of(title), later:films!sequel_of(title)').eq('id', 7)), [{ earlier: { title: 'M' }, later: [] }])
  assert.deepEqual(await rows(films('later:films!sequel_of(id)').eq('id', 2)), [{ later: [{ id: 7 }] }])
  assert.deepEqual(await rows(db.from('recent_films').select('directors(name)').eq('id', 5)), [{ directors: { name: 'Varda' } }])
})

test('embedding: inner, spread, nested, filters and order of what is embedded', async () => {
  assert.deepEqual(await ids(films('id, directors!inner(name)').eq('directors.name', 'Kubrick')), [3, 4])
  assert.deepEqual(await rows(films('id, ...directors(director:name)').eq('id', 5)), [{ id: 5, director: 'Varda' }])
  const [lang] = await rows(db.from('directors').select('name, films(title, actors(name))').eq('id', 1)
    .gt('films.year', 1927).order('year', { referencedTable: 'films', ascending: false }).limit(1, { referencedTable: 'films' }))
  assert.deepEqual(lang, { name: 'Lang', films: [{ title: 'The Testament of Dr. Mabuse', actors: [{ name: 'Klein-Rogge' }] }] })
  assert.deepEqual(await rows(db.from('directors').select('id, films()').is('films', null)), [{ id: 4 }])
  assert.deepEqual(await rows(db.from('directors').select('id').or('year.eq.1927,year.eq.1968', { referencedTable: 'films' }).select('id, films!inner(year)').order('id')),
    [{ id: 1, films: [{ year: 1927 }] }, { id: 2, films: [{ year: 1968 }] }])
})

test('order: direction, nulls, several, by what is embedded', async () => {
  const by = (column, options) => ids(db.from('films').select('id, directors()').order(column, options).order('id'))
  assert.deepEqual(await by('rating', { ascending: false, nullsFirst: true }), [7, 8, 4, 1, 2, 3, 5, 6])
  assert.deepEqual(await by('rating', { ascending: true, nullsFirst: false }), [6, 5, 1, 2, 3, 4, 7, 8])
  assert.deepEqual(await by('directors(name)', { ascending: true, nullsFirst: true }), [8, 3, 4, 1, 2, 7, 5, 6])
  assert.deepEqual(await by('meta->>country', { ascending: false, nullsFirst: false }), [3, 4, 5, 1, 2, 6, 7, 8])
})

test('pages: limit, range, beyond the end', async () => {
  assert.deepEqual(await ids(films().limit(2)), [1, 2])
  assert.deepEqual(await ids(films().range(2, 4)), [3, 4, 5])
  assert.deepEqual(await ids(films().range(6, 100)), [7, 8])
  const page = await db.from('films').select('id', { count: 'exact' }).order('id').range(2, 4)
  assert.equal(page.status, 206)
  assert.equal(page.count, 8)
  const beyond = await db.from('films').select('id', { count: 'exact' }).range(100, 110)
  assert.equal(beyond.status, 416)
  assert.equal(beyond.error.code, 'PGRST103')
})

test('count: exact, planned, estimated, without rows', async () => {
  assert.equal((await got(db.from('films').select('id', { count: 'exact' }).eq('year', 1931))).count, 1)
  assert.equal(typeof (await got(db.from('films').select('id', { count: 'planned' }))).count, 'number')
  assert.equal(typeof (await got(db.from('films').select('id', { count: 'estimated' }))).count, 'number')
  const head = await got(db.from('films').select('*', { count: 'exact', head: true }))
  assert.equal(head.count, 8)
  assert.equal(head.data, null)
})

test('single and maybeSingle', async () => {
  assert.deepEqual(await rows(films('title').eq('id', 2).single()), { title: 'M' })
  assert.deepEqual(await rows(films('title').eq('id', 2).maybeSingle()), { title: 'M' })
  assert.equal(await rows(films('title').eq('id', 99).maybeSingle()), null)
  const none = await refused(films('title').eq('id', 99).single())
  assert.equal(none.status, 406)
  assert.equal(none.error.code, 'PGRST116')
  assert.equal((await refused(films('title').lt('id', 3).single())).error.code, 'PGRST116')
})

test('csv, stripped nulls, aggregates, plans', async () => {
  assert.equal(await rows(films('id,title').lt('id', 3).csv()), 'id,title\n1,Metropolis\n2,M')
  assert.match(await rows(films('title').eq('id', 6).csv()), /"Vagabond, ""Mona"""/)
  assert.deepEqual(await rows(films('id, rating').eq('id', 8).stripNulls()), [{ id: 8 }])
  assert.deepEqual(await rows(db.from('films').select('country:meta->>country, id.count()').in('id', [1, 2, 3]).order('meta->>country')), [{ country: 'de', count: 2 }, { country: 'uk', count: 1 }])
  assert.match(await rows(db.from('films').select('id').eq('id', 1).explain()), /cost=/)
  const [plan] = await rows(db.from('films').select('id').explain({ format: 'json', analyze: true }))
  assert(plan.Plan)
})

test('what is wrong is told in one shape', async () => {
  const table = await refused(db.from('filmz').select())
  assert.equal(table.status, 404)
  assert.equal(table.error.code, 'PGRST205')
  assert.match(table.error.hint, /films/)
  const column = await refused(films('titel'))
  assert.equal(column.status, 400)
  assert.equal(column.error.code, '42703')
  const value = await refused(films().eq('id', 'x'))
  assert.equal(value.status, 400)
  assert.equal(value.error.code, '22P02')
  assert.equal((await refused(films('id, roles!nothing(*)'))).error.code, 'PGRST200')
  assert.equal((await refused(films().or('bad'))).error.code, 'PGRST100')
  const schema = await refused(db.schema('secret').from('films').select())
  assert.equal(schema.status, 406)
  assert.equal(schema.error.code, 'PGRST106')
  const token = await refused(client('no.such.token').from('films').select())
  assert.equal(token.status, 401)
  await assert.rejects(async () => await db.from('filmz').select().throwOnError(), { code: 'PGRST205' })
})
