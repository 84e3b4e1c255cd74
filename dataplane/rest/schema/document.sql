WITH RECURSIVE
-- The rule of a view is a tree of nodes in braces. What a column of the view is
-- made of stands in the target entries of the outermost query; all other nodes
-- are taken away from the inside out. Escaped characters go first: a brace in a
-- name is none of the tree's.
tree AS (
  SELECT c.oid, pg_catalog.regexp_replace(r.ev_action::text, '\\.', '', 'g') AS doc, 0 AS turn
    FROM pg_catalog.pg_rewrite r
    JOIN pg_catalog.pg_class c ON c.oid = r.ev_class AND c.relkind IN ('v', 'm')
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname NOT IN ('pg_catalog', 'information_schema')
   WHERE r.rulename = '_RETURN'
  UNION ALL
  SELECT oid, pg_catalog.regexp_replace(pg_catalog.regexp_replace(doc, '\{(?!TARGETENTRY|QUERY)(?:[^{}]|\{TARGETENTRY[^{}]*\})*\}', '', 'g'),
                ' \{QUERY (?:[^{}]|\{TARGETENTRY[^{}]*\})*\}', '', 'g'), turn + 1
    FROM tree
   WHERE turn < 200 AND doc ~ '\{(?!TARGETENTRY|QUERY)| \{QUERY '),
origin AS (
  SELECT t.oid AS view, m[1]::int2 AS attnum, m[2]::oid AS source, m[3]::int2 AS sourcenum
    FROM (SELECT DISTINCT ON (oid) oid, doc FROM tree ORDER BY oid, turn DESC) t,
         pg_catalog.regexp_matches(t.doc, ':resno (\d+) :resname [^{}]*? :ressortgroupref \d+ :resorigtbl ([1-9]\d*) :resorigcol (\d+)', 'g') m),
-- A view over a view: down to the table.
base AS (
  SELECT * FROM origin
  UNION
  SELECT b.view, b.attnum, o.source, o.sourcenum FROM base b JOIN origin o ON o.view = b.source AND o.attnum = b.sourcenum),
exposed AS (
  SELECT c.oid, n.nspname, c.relname, c.relkind, false AS hidden
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = ANY ($1) AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition),
-- What domains are made of, down to what is none.
domain AS (
  SELECT t.oid, t.typbasetype AS base FROM pg_catalog.pg_type t WHERE t.typtype = 'd'
  UNION ALL
  SELECT d.oid, t.typbasetype FROM domain d JOIN pg_catalog.pg_type t ON t.oid = d.base AND t.typtype = 'd'),
base_type AS (
  SELECT d.oid, d.base FROM domain d JOIN pg_catalog.pg_type t ON t.oid = d.base AND t.typtype <> 'd'),
-- Functions by which a domain is represented: implicit casts to and from json, and from text.
representation AS (
  SELECT t.oid, json_object_agg(CASE WHEN k.castsource = t.oid THEN 'ToJSON' WHEN k.castsource = 'json'::pg_catalog.regtype THEN 'FromJSON' ELSE 'FromText' END,
           json_build_object('Schema', n.nspname, 'Name', p.proname) ORDER BY k.castsource = t.oid, k.castsource = 'json'::pg_catalog.regtype) AS doc
    FROM pg_catalog.pg_cast k
    JOIN pg_catalog.pg_type t ON t.typtype = 'd'
     AND (t.oid = k.castsource AND k.casttarget = 'json'::pg_catalog.regtype
          OR t.oid = k.casttarget AND k.castsource IN ('json'::pg_catalog.regtype, 'text'::pg_catalog.regtype))
    JOIN pg_catalog.pg_proc p ON p.oid = k.castfunc
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
   WHERE k.castcontext = 'i' AND k.castmethod = 'f'
   GROUP BY t.oid),
-- Tables that only show through views lend them their keys.
relation AS (
  SELECT * FROM exposed
  UNION ALL
  SELECT c.oid, n.nspname, c.relname, c.relkind, true
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname <> ALL ($1) AND c.relkind IN ('r', 'p')
     AND c.oid IN (SELECT b.source FROM base b JOIN exposed e ON e.oid = b.view))
SELECT json_build_object('Relations', (
SELECT coalesce(json_agg(json_build_object(
         'Schema', c.nspname, 'Name', c.relname, 'Kind', c.relkind::text, 'Hidden', c.hidden,
         'Plain', c.relkind IN ('r', 'p') AND NOT (SELECT p.relrowsecurity FROM pg_catalog.pg_class p WHERE p.oid = c.oid) AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_attribute a
              JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
              LEFT JOIN base_type bt ON bt.oid = t.oid LEFT JOIN pg_catalog.pg_type b ON b.oid = bt.base
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND coalesce(b.typnamespace, t.typnamespace) <> 'pg_catalog'::pg_catalog.regnamespace),
         -- An insert runs no function of the tenant's, nor one of Postgres' that leaves something in the session.
         'Calm', c.relkind = 'r' AND NOT (SELECT p.relhasrules FROM pg_catalog.pg_class p WHERE p.oid = c.oid)
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal)
           AND NOT EXISTS (
            SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND t.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace)
           AND NOT coalesce(run.loud, false),
         'Blind', NOT coalesce(run.asks, false),
         'Writable', CASE WHEN c.relkind IN ('v', 'f') THEN pg_catalog.pg_relation_is_updatable(c.oid, true) WHEN c.relkind = 'm' THEN 0 ELSE 28 END,
         'Columns', coalesce(cols.doc, '[]'), 'Keys', coalesce(keys.doc, '[]'), 'Origins', origins.doc)
       ORDER BY c.nspname, c.relname), '[]')
  FROM relation c
  LEFT JOIN LATERAL (
       -- What asks the session may be any function that is not known to ask nothing; names that are looked up by the search path ask, too.
       SELECT bool_or(e.text ~* 'set_config|advisory'
                OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = e.class AND d.objid = e.oid
                    AND d.refclassid IN ('pg_proc'::pg_catalog.regclass, 'pg_operator'::pg_catalog.regclass, 'pg_opclass'::pg_catalog.regclass, 'pg_opfamily'::pg_catalog.regclass))) AS loud,
              bool_or(pg_catalog.replace(bare.text, '''''::regclass', '') ~* '::("|reg|pg_catalog)|current_schema'
                OR EXISTS (SELECT FROM pg_catalog.regexp_matches(bare.text, '([\w$."]+)\(', 'g') m WHERE pg_catalog.lower(m[1]) <> ALL (
                    '{nextval,now,clock_timestamp,statement_timestamp,transaction_timestamp,gen_random_uuid,random,coalesce,nullif,greatest,least,
                      length,char_length,octet_length,lower,upper,btrim,ltrim,rtrim,left,right,md5,abs,round,floor,ceil,mod,extract,date_part,
                      array_length,cardinality,num_nulls,num_nonnulls,jsonb_typeof,json_typeof,jsonb_array_length,numeric,varying,character,bpchar,bit,time,timestamp}'))) AS asks
         FROM (SELECT 'pg_attrdef'::pg_catalog.regclass, d.oid, pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = c.oid
               UNION ALL SELECT 'pg_constraint'::pg_catalog.regclass, k.oid, pg_catalog.pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype IN ('c', 'x')
               UNION ALL SELECT 'pg_class'::pg_catalog.regclass, i.indexrelid, CASE WHEN i.indexprs IS NOT NULL OR i.indpred IS NOT NULL THEN pg_catalog.pg_get_indexdef(i.indexrelid) END FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid) e(class, oid, text)
        CROSS JOIN LATERAL (SELECT pg_catalog.regexp_replace(pg_catalog.regexp_replace(e.text, '''([^'']|'''')*''', '''''', 'g'), '"([^"]|"")*"', '""', 'g')) bare(text)) run ON true
  LEFT JOIN LATERAL (
       SELECT json_agg(json_build_object(
                'Name', a.attname, 'Type', pg_catalog.format_type(a.atttypid, -1), 'Base', coalesce(b.typname, t.typname),
                'Nullable', NOT a.attnotnull, 'HasDefault', a.atthasdef,
                'Identity', a.attidentity <> '', 'Generated', a.attgenerated <> '', 'DomainNotNull', t.typtype = 'd' AND t.typnotnull,
                'Representation', rep.doc, 'Position', CASE WHEN any_rep.found THEN a.attnum ELSE 0 END)
              ORDER BY a.attname) AS doc
         FROM pg_catalog.pg_attribute a
         JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
         LEFT JOIN representation rep ON rep.oid = a.atttypid
         CROSS JOIN (SELECT EXISTS (SELECT FROM pg_catalog.pg_attribute ra JOIN representation r ON r.oid = ra.atttypid WHERE ra.attrelid = c.oid) AS found) any_rep
         LEFT JOIN base_type bt ON bt.oid = t.oid LEFT JOIN pg_catalog.pg_type b ON b.oid = bt.base
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND NOT c.hidden) cols ON true
  LEFT JOIN LATERAL (
       SELECT json_agg(json_build_object(
                'Name', k.conname, 'Kind', k.contype::text,
                'Columns', (SELECT json_agg(a.attname ORDER BY u.n)
                              FROM unnest(k.conkey) WITH ORDINALITY u(attnum, n)
                              JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.attnum),
                'ToSchema', tn.nspname, 'ToName', tc.relname,
                'ToColumns', (SELECT json_agg(a.attname ORDER BY u.n)
                              FROM unnest(k.confkey) WITH ORDINALITY u(attnum, n)
                              JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.attnum))
              ORDER BY k.conname) AS doc
         FROM pg_catalog.pg_constraint k
         LEFT JOIN pg_catalog.pg_class tc ON tc.oid = k.confrelid
         LEFT JOIN pg_catalog.pg_namespace tn ON tn.oid = tc.relnamespace
        WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u', 'f') AND k.conparentid = 0) keys ON true
  LEFT JOIN LATERAL (
       SELECT json_agg(json_build_object('Column', va.attname, 'Schema', sn.nspname, 'Table', sc.relname, 'TableColumn', sa.attname)
              ORDER BY va.attname, sn.nspname, sc.relname, sa.attname) AS doc
         FROM base b
         JOIN pg_catalog.pg_class sc ON sc.oid = b.source AND sc.relkind IN ('r', 'p')
         JOIN pg_catalog.pg_namespace sn ON sn.oid = sc.relnamespace
         JOIN pg_catalog.pg_attribute sa ON sa.attrelid = sc.oid AND sa.attnum = b.sourcenum
         JOIN pg_catalog.pg_attribute va ON va.attrelid = b.view AND va.attnum = b.attnum
        WHERE b.view = c.oid) origins ON true),
'Functions', (
SELECT coalesce(json_agg(json_build_object(
         'Schema', n.nspname, 'Name', p.proname, 'Volatility', p.provolatile::text, 'SetOf', p.proretset, 'One', p.prorows = 1,
         'Args', coalesce(args.doc, '[]'), 'Type', pg_catalog.format_type(p.prorettype, -1), 'Base', coalesce(b.typname, t.typname),
         'Domain', CASE WHEN t.typtype = 'd' THEN t.typname END,
         'Composite', coalesce(b.typtype, t.typtype) = 'c', 'RelationSchema', rn.nspname, 'Relation', rc.relname, 'Columns', cols.doc,
         'Settings', (SELECT json_agg(s.setting ORDER BY s.n) FROM unnest(p.proconfig) WITH ORDINALITY s(setting, n) WHERE s.setting NOT LIKE 'search\_path=%'))
       ORDER BY n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid)), '[]')
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_catalog.pg_type t ON t.oid = p.prorettype
  LEFT JOIN base_type bt ON bt.oid = t.oid LEFT JOIN pg_catalog.pg_type b ON b.oid = bt.base
  LEFT JOIN pg_catalog.pg_class rc ON rc.oid = coalesce(nullif(b.typrelid, 0), t.typrelid)
  LEFT JOIN pg_catalog.pg_namespace rn ON rn.oid = rc.relnamespace
  LEFT JOIN LATERAL (
       SELECT json_agg(json_build_object(
                'Name', coalesce(p.proargnames[a.n], ''), 'Mode', coalesce(p.proargmodes[a.n]::text, 'i'),
                'Type', pg_catalog.format_type(a.type, -1), 'Base', at.typname, 'TableSchema', an.nspname, 'Table', ac.relname,
                'Optional', a.input > p.pronargs - p.pronargdefaults) ORDER BY a.n) AS doc
         FROM (SELECT u.type, u.n, count(*) FILTER (WHERE coalesce(p.proargmodes[u.n], 'i') IN ('i', 'b', 'v')) OVER (ORDER BY u.n) AS input
                 FROM unnest(coalesce(p.proallargtypes, p.proargtypes::oid[])) WITH ORDINALITY u(type, n)) a
         JOIN pg_catalog.pg_type at ON at.oid = a.type
         LEFT JOIN pg_catalog.pg_class ac ON ac.oid = at.typrelid AND ac.relkind <> 'c'
         LEFT JOIN pg_catalog.pg_namespace an ON an.oid = ac.relnamespace) args ON true
  LEFT JOIN LATERAL (
       SELECT json_agg(json_build_object('Name', a.attname, 'Type', pg_catalog.format_type(a.atttypid, -1), 'Base', coalesce(cb.typname, ct.typname),
                'Nullable', true) ORDER BY a.attname) AS doc
         FROM pg_catalog.pg_attribute a
         JOIN pg_catalog.pg_type ct ON ct.oid = a.atttypid
         LEFT JOIN base_type bt ON bt.oid = ct.oid LEFT JOIN pg_catalog.pg_type cb ON cb.oid = bt.base
        WHERE a.attrelid = rc.oid AND rc.oid NOT IN (SELECT e.oid FROM exposed e) AND a.attnum > 0 AND NOT a.attisdropped) cols ON true
 WHERE n.nspname = ANY ($1) AND p.prokind = 'f' AND t.typname NOT IN ('trigger', 'event_trigger', 'internal', 'language_handler'))
,
-- Aggregates over rows whose result is of a domain that is named like a media type.
'Handlers', (
SELECT coalesce(json_agg(json_build_object(
         'Schema', n.nspname, 'Name', p.proname, 'OfSchema', an.nspname, 'Of', at.typname, 'Any', at.typrelid = 0, 'Domain', t.typname, 'Base', b.typname)
       ORDER BY n.nspname, p.proname, an.nspname, at.typname), '[]')
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_catalog.pg_type t ON t.oid = p.prorettype AND (t.typname ~ '^[A-Za-z0-9.-]+/[A-Za-z0-9.+-]+$' OR t.typname = '*/*')
  JOIN pg_catalog.pg_type b ON b.oid = t.typbasetype
  JOIN pg_catalog.pg_type at ON at.oid = p.proargtypes[0] AND (at.typrelid <> 0 OR at.oid = 'pg_catalog.anyelement'::pg_catalog.regtype)
  JOIN pg_catalog.pg_namespace an ON an.oid = at.typnamespace
 WHERE n.nspname = ANY ($1) AND p.prokind = 'a' AND p.pronargs = 1),
'GeoJSON', (
SELECT n.nspname
  FROM pg_catalog.pg_proc p
  JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
 WHERE p.proname = 'st_asgeojson' AND n.nspname !~ '^pg_temp_' AND p.prokind = 'f' AND p.proargtypes[0] = 'pg_catalog.record'::pg_catalog.regtype
   AND p.pronargs - p.pronargdefaults <= 1
 ORDER BY n.nspname LIMIT 1)
)::text AS doc
