-- What a database holds, one line for each thing, in words that mean the same on
-- every version: compared across versions where one pg_dump can't be. Run it
-- with an empty search_path. It leaves out what a version adds by itself:
-- MAINTAIN and identity of partitions (17), not-null constraints and the names of what a foreign key to a partitioned table makes for its partitions (18), versions of extensions and collations.
WITH mine AS MATERIALIZED (
  SELECT oid, nspname, quote_ident(nspname) AS q FROM pg_namespace
  WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'freehold')
), extension_object AS MATERIALIZED (
  SELECT classid, objid FROM pg_depend WHERE deptype = 'e'
), rel AS MATERIALIZED (
  SELECT c.*, n.q || '.' || quote_ident(c.relname) AS q FROM pg_class c JOIN mine n ON n.oid = c.relnamespace
  WHERE c.relpersistence <> 't' AND (c.oid) NOT IN (SELECT objid FROM extension_object WHERE classid = 'pg_class'::regclass)
), grants(kind, name, owner, acl) AS (
  SELECT 'relation', q, relowner, coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner)) FROM rel WHERE relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
  UNION ALL SELECT 'column', rel.q || '.' || quote_ident(a.attname), NULL, a.attacl FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid WHERE a.attacl IS NOT NULL AND a.attnum > 0
  UNION ALL SELECT 'schema', n.q, s.nspowner, coalesce(s.nspacl, acldefault('n', s.nspowner)) FROM mine n JOIN pg_namespace s ON s.oid = n.oid
  UNION ALL SELECT 'routine', p.oid::regprocedure::text, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner)) FROM pg_proc p JOIN mine n ON n.oid = p.pronamespace
    WHERE p.oid NOT IN (SELECT objid FROM extension_object WHERE classid = 'pg_proc'::regclass)
  UNION ALL SELECT 'type', format_type(t.oid, NULL), t.typowner, coalesce(t.typacl, acldefault('T', t.typowner)) FROM pg_type t JOIN mine n ON n.oid = t.typnamespace
    WHERE t.typtype IN ('e', 'd', 'r') AND t.oid NOT IN (SELECT objid FROM extension_object WHERE classid = 'pg_type'::regclass)
  UNION ALL SELECT 'default ' || d.defaclobjtype::text, coalesce(n.q, '*'), d.defaclrole, d.defaclacl FROM pg_default_acl d LEFT JOIN mine n ON n.oid = d.defaclnamespace
), lines(line) AS (
  SELECT concat_ws('|', 'relation', q, relkind, relpersistence, pg_get_userbyid(relowner), array_to_string(reloptions, ','), relreplident, relrowsecurity, relforcerowsecurity,
    relispartition, pg_get_expr(relpartbound, oid), CASE WHEN relkind IN ('v', 'm') THEN relispopulated END) FROM rel WHERE relkind NOT IN ('i', 'I', 't')
  UNION ALL SELECT concat_ws('|', 'column', rel.q, a.attname, row_number() OVER (PARTITION BY rel.oid ORDER BY a.attnum), format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
      CASE WHEN NOT rel.relispartition THEN a.attidentity END, a.attgenerated, a.attcollation::regcollation, a.attstorage, a.attcompression, nullif(a.attstattarget, -1), a.attislocal, array_to_string(a.attoptions, ','))
    FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attnum > 0 AND NOT a.attisdropped AND rel.relkind NOT IN ('i', 'I', 't')
  UNION ALL SELECT concat_ws('|', 'inherits', rel.q, i.inhparent::regclass, i.inhseqno) FROM pg_inherits i JOIN rel ON rel.oid = i.inhrelid
  UNION ALL SELECT concat_ws('|', 'partitioned', rel.q, pg_get_partkeydef(rel.oid)) FROM rel WHERE relkind = 'p'
  UNION ALL SELECT concat_ws('|', 'constraint', coalesce(rel.q, format_type(c.contypid, NULL)), c.conname, pg_get_constraintdef(c.oid), c.convalidated, c.conislocal)
    FROM pg_constraint c JOIN mine ON mine.oid = c.connamespace LEFT JOIN rel ON rel.oid = c.conrelid WHERE c.contype <> 'n' AND (c.conrelid = 0 OR rel.oid IS NOT NULL)
    AND NOT EXISTS (SELECT FROM pg_constraint p WHERE p.oid = c.conparentid AND p.conrelid = c.conrelid)
  UNION ALL SELECT concat_ws('|', 'index', pg_get_indexdef(i.indexrelid), i.indisvalid, i.indisclustered, i.indisreplident) FROM pg_index i JOIN rel ON rel.oid = i.indrelid
  UNION ALL SELECT concat_ws('|', 'trigger', pg_get_triggerdef(t.oid), t.tgenabled) FROM pg_trigger t JOIN rel ON rel.oid = t.tgrelid WHERE NOT t.tgisinternal
  UNION ALL SELECT concat_ws('|', 'rule', pg_get_ruledef(r.oid), r.ev_enabled) FROM pg_rewrite r JOIN rel ON rel.oid = r.ev_class WHERE r.rulename <> '_RETURN'
  UNION ALL SELECT concat_ws('|', 'view', q, regexp_replace(pg_get_viewdef(oid), '\m[a-z_]+\.(?=[a-z_]+\M(?!\())', '', 'g')) FROM rel WHERE relkind IN ('v', 'm') -- 16 says fewer tables' names
  UNION ALL SELECT concat_ws('|', 'policy', rel.q, p.polname, p.polcmd, p.polpermissive, (SELECT string_agg(coalesce(a.rolname, 'PUBLIC'), ',' ORDER BY a.rolname) FROM unnest(p.polroles) u(oid) LEFT JOIN pg_roles a ON a.oid = u.oid),
      pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) FROM pg_policy p JOIN rel ON rel.oid = p.polrelid
  UNION ALL SELECT concat_ws('|', 'sequence', rel.q, format_type(s.seqtypid, NULL), s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle) FROM pg_sequence s JOIN rel ON rel.oid = s.seqrelid
  UNION ALL SELECT concat_ws('|', 'statistics', pg_get_statisticsobjdef(s.oid)) FROM pg_statistic_ext s JOIN rel ON rel.oid = s.stxrelid
  UNION ALL SELECT concat_ws('|', 'routine', CASE WHEN p.prokind = 'a' THEN p.oid::regprocedure::text ELSE pg_get_functiondef(p.oid) END, pg_get_userbyid(p.proowner), p.provolatile)
    FROM pg_proc p JOIN mine n ON n.oid = p.pronamespace WHERE p.oid NOT IN (SELECT objid FROM extension_object WHERE classid = 'pg_proc'::regclass)
  UNION ALL SELECT concat_ws('|', 'type', format_type(t.oid, NULL), t.typtype, pg_get_userbyid(t.typowner), format_type(nullif(t.typbasetype, 0), t.typtypmod), t.typnotnull, t.typdefault,
      (SELECT string_agg(e.enumlabel, ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid), (SELECT format_type(r.rngsubtype, NULL) FROM pg_range r WHERE r.rngtypid = t.oid))
    FROM pg_type t JOIN mine n ON n.oid = t.typnamespace WHERE t.typtype <> 'b' AND t.oid NOT IN (SELECT objid FROM extension_object WHERE classid = 'pg_type'::regclass)
  UNION ALL SELECT concat_ws('|', 'extension', e.extname, e.extnamespace::regnamespace) FROM pg_extension e
  UNION ALL SELECT concat_ws('|', 'schema', n.q, pg_get_userbyid(s.nspowner)) FROM mine n JOIN pg_namespace s ON s.oid = n.oid
  UNION ALL SELECT concat_ws('|', 'collation', c.oid::regcollation, c.collprovider, c.collisdeterministic, coalesce(to_jsonb(c)->>'colliculocale', to_jsonb(c)->>'colllocale', c.collcollate)) FROM pg_collation c JOIN mine n ON n.oid = c.collnamespace
  UNION ALL SELECT concat_ws('|', 'operator', o.oid::regoperator, o.oprcode::regprocedure) FROM pg_operator o JOIN mine n ON n.oid = o.oprnamespace WHERE o.oid NOT IN (SELECT objid FROM extension_object WHERE classid = 'pg_operator'::regclass)
  UNION ALL SELECT concat_ws('|', 'cast', format_type(c.castsource, NULL), format_type(c.casttarget, NULL), c.castmethod, c.castcontext) FROM pg_cast c WHERE c.oid >= 16384 AND c.oid NOT IN (SELECT objid FROM extension_object WHERE classid = 'pg_cast'::regclass)
  UNION ALL SELECT concat_ws('|', 'text search', c.oid::regconfig) FROM pg_ts_config c JOIN mine n ON n.oid = c.cfgnamespace
  UNION ALL SELECT concat_ws('|', 'setting', d.datname, a.rolname, u.s) FROM pg_db_role_setting s LEFT JOIN pg_roles a ON a.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase CROSS JOIN unnest(s.setconfig) u(s)
    WHERE d.datname = current_database() OR d.datname IS NULL AND a.rolname ~ ('^' || current_database() || '(_|$)')
  UNION ALL SELECT concat_ws('|', 'database', shobj_description(oid, 'pg_database'), pg_encoding_to_char(encoding), datcollate, datctype, datlocprovider) FROM pg_database WHERE datname = current_database()
  UNION ALL SELECT concat_ws('|', 'grant', g.kind, g.name, pg_get_userbyid(g.owner), coalesce(a.rolname, 'PUBLIC'), x.privilege_type, x.is_grantable)
    FROM grants g CROSS JOIN LATERAL aclexplode(g.acl) x LEFT JOIN pg_roles a ON a.oid = x.grantee WHERE x.privilege_type <> 'MAINTAIN'
  UNION ALL SELECT concat_ws('|', 'comment', i.type, i.identity, d.description) FROM pg_description d CROSS JOIN LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) i
    WHERE d.objoid >= 16384 AND NOT EXISTS (SELECT FROM extension_object e WHERE e.classid = d.classoid AND e.objid = d.objoid)
    AND i.schema IS DISTINCT FROM 'freehold' AND i.identity !~ '^(freehold|pg_)' AND i.type <> 'extension' AND i.type <> 'publication'
)
SELECT line FROM lines ORDER BY line COLLATE "C"
