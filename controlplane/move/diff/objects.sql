WITH db AS (
	SELECT d.oid, d.datname, d.datdba, d.datacl, d.encoding, d.datcollate, d.datctype, d.datlocprovider FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
),
space AS (
	SELECT n.* FROM pg_catalog.pg_namespace n WHERE n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('information_schema', 'freehold')
),
member AS MATERIALIZED ( -- what an extension made is as the extension's version says
	SELECT d.classid, d.objid FROM pg_catalog.pg_depend d WHERE d.deptype = 'e' AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass
),
rel AS MATERIALIZED (
	SELECT c.*, c.oid::pg_catalog.regclass::pg_catalog.text AS ident,
		CASE c.relkind WHEN 'r' THEN 'table' WHEN 'p' THEN 'partitioned table' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence'
			WHEN 'f' THEN 'foreign table' WHEN 'c' THEN 'type' ELSE 'index' END AS kind
	FROM pg_catalog.pg_class c JOIN space ON space.oid = c.relnamespace
	WHERE c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c', 'i', 'I')
	AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND m.objid = c.oid)
),
proc AS MATERIALIZED (
	SELECT p.*, p.oid::pg_catalog.regprocedure::pg_catalog.text AS ident FROM pg_catalog.pg_proc p JOIN space ON space.oid = p.pronamespace
	WHERE NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND m.objid = p.oid)
),
typ AS MATERIALIZED (
	SELECT t.*, pg_catalog.format_type(t.oid, NULL) AS ident FROM pg_catalog.pg_type t JOIN space ON space.oid = t.typnamespace
	WHERE t.typtype IN ('e', 'd', 'r', 'b') AND t.typelem = 0
	AND NOT EXISTS (SELECT FROM member m WHERE m.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND m.objid = t.oid)
),
acl(kind, ident, acl) AS (
	SELECT kind, ident, coalesce(relacl, pg_catalog.acldefault(CASE relkind WHEN 'S' THEN 's'::"char" ELSE 'r'::"char" END, relowner)) FROM rel WHERE kind NOT IN ('index', 'type')
	UNION ALL SELECT 'column', rel.ident || '.' || pg_catalog.quote_ident(a.attname), a.attacl FROM rel JOIN pg_catalog.pg_attribute a ON a.attrelid = rel.oid WHERE a.attacl IS NOT NULL AND NOT a.attisdropped
	UNION ALL SELECT 'function', ident, coalesce(proacl, pg_catalog.acldefault('f', proowner)) FROM proc
	UNION ALL SELECT 'type', ident, coalesce(typacl, pg_catalog.acldefault('T', typowner)) FROM typ
	UNION ALL SELECT 'schema', pg_catalog.quote_ident(nspname), coalesce(nspacl, pg_catalog.acldefault('n', nspowner)) FROM space
	UNION ALL SELECT 'database', pg_catalog.quote_ident(datname), coalesce(datacl, pg_catalog.acldefault('d', datdba)) FROM db
)
SELECT 'database', pg_catalog.quote_ident(datname), pg_catalog.concat_ws(' ', 'owner', datdba::pg_catalog.regrole, 'encoding', encoding, 'locale', datcollate, datctype, datlocprovider) FROM db
UNION ALL SELECT 'schema', pg_catalog.quote_ident(nspname), 'owner ' || nspowner::pg_catalog.regrole::pg_catalog.text FROM space
UNION ALL SELECT 'extension', pg_catalog.quote_ident(e.extname), 'version ' || e.extversion || ' in schema ' || n.nspname
	FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
UNION ALL SELECT kind, ident, pg_catalog.concat_ws(' ', 'owner', relowner::pg_catalog.regrole, relpersistence, 'options', reloptions, 'row security', relrowsecurity, relforcerowsecurity,
		'partition', pg_catalog.pg_get_expr(relpartbound, oid), 'by', CASE WHEN relkind = 'p' THEN pg_catalog.pg_get_partkeydef(oid) END,
		'of', (SELECT pg_catalog.string_agg(i.inhparent::pg_catalog.regclass::pg_catalog.text, ',' ORDER BY i.inhseqno) FROM pg_catalog.pg_inherits i WHERE i.inhrelid = rel.oid))
	FROM rel WHERE kind <> 'index'
UNION ALL SELECT 'column', rel.ident || '.' || pg_catalog.quote_ident(a.attname), pg_catalog.concat_ws(' ', '#' || pg_catalog.row_number() OVER (PARTITION BY rel.oid ORDER BY a.attnum),
		pg_catalog.format_type(a.atttypid, a.atttypmod), CASE WHEN a.attnotnull THEN 'not null' END, 'identity ' || CASE WHEN NOT rel.relispartition THEN nullif(a.attidentity::pg_catalog.text, '') END /* a partition's is its parent's from 17 on */, 'generated ' || nullif(a.attgenerated::pg_catalog.text, ''),
		'default ' || pg_catalog.pg_get_expr(d.adbin, d.adrelid), 'collate ' || o.collname, 'storage ' || a.attstorage::pg_catalog.text, 'compression ' || nullif(a.attcompression::pg_catalog.text, ''),
		'options ' || a.attoptions::pg_catalog.text, 'statistics ' || nullif(a.attstattarget, -1)::pg_catalog.text)
	FROM rel JOIN pg_catalog.pg_attribute a ON a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped
	LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum LEFT JOIN pg_catalog.pg_collation o ON o.oid = a.attcollation
	WHERE rel.kind NOT IN ('index', 'sequence')
UNION ALL SELECT 'view definition', ident, pg_catalog.pg_get_viewdef(oid) FROM rel WHERE relkind IN ('v', 'm')
UNION ALL SELECT 'index', ident, pg_catalog.concat_ws(' ', pg_catalog.pg_get_indexdef(rel.oid), CASE WHEN NOT i.indisvalid THEN '(invalid)' END, CASE WHEN i.indisclustered THEN '(clustered)' END)
	FROM rel JOIN pg_catalog.pg_index i ON i.indexrelid = rel.oid
UNION ALL SELECT 'constraint', pg_catalog.quote_ident(c.conname) || ' on ' || coalesce(rel.ident, typ.ident), pg_catalog.pg_get_constraintdef(c.oid) || CASE WHEN c.convalidated THEN '' ELSE ' (not valid)' END
	FROM pg_catalog.pg_constraint c LEFT JOIN rel ON rel.oid = c.conrelid AND c.conrelid <> 0 LEFT JOIN typ ON typ.oid = c.contypid AND c.contypid <> 0
	WHERE c.contype NOT IN ('n', 't') AND (rel.oid IS NOT NULL OR typ.oid IS NOT NULL) -- NOT NULL is its column's; newer versions list it here as well
	AND NOT (c.contype = 'f' AND c.conparentid <> 0) -- made by its parent, under a name of the version's choice
UNION ALL SELECT 'trigger', pg_catalog.quote_ident(t.tgname) || ' on ' || rel.ident, pg_catalog.pg_get_triggerdef(t.oid) || ' enabled ' || t.tgenabled::pg_catalog.text
	FROM rel JOIN pg_catalog.pg_trigger t ON t.tgrelid = rel.oid WHERE NOT t.tgisinternal
UNION ALL SELECT 'rule', pg_catalog.quote_ident(r.rulename) || ' on ' || rel.ident, pg_catalog.pg_get_ruledef(r.oid) || ' enabled ' || r.ev_enabled::pg_catalog.text
	FROM rel JOIN pg_catalog.pg_rewrite r ON r.ev_class = rel.oid WHERE r.rulename <> '_RETURN'
UNION ALL SELECT 'policy', pg_catalog.quote_ident(p.polname) || ' on ' || rel.ident, pg_catalog.concat_ws(' ', p.polcmd, CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END,
		'to', (SELECT pg_catalog.string_agg(CASE r.r WHEN 0 THEN 'public' ELSE r.r::pg_catalog.regrole::pg_catalog.text END, ',' ORDER BY r.r::pg_catalog.regrole::pg_catalog.text) FROM unnest(p.polroles) r(r)),
		'using', pg_catalog.pg_get_expr(p.polqual, p.polrelid), 'check', pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid))
	FROM rel JOIN pg_catalog.pg_policy p ON p.polrelid = rel.oid
UNION ALL SELECT 'sequence definition', ident, pg_catalog.concat_ws(' ', s.seqtypid::pg_catalog.regtype, 'start', s.seqstart, 'increment', s.seqincrement, 'from', s.seqmin, 'to', s.seqmax, 'cache', s.seqcache, CASE WHEN s.seqcycle THEN 'cycle' END,
		'owned by ' || (SELECT pg_catalog.min(d.refobjid::pg_catalog.regclass::pg_catalog.text || '.' || pg_catalog.quote_ident(a.attname)) FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
			WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = rel.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i')))
	FROM rel JOIN pg_catalog.pg_sequence s ON s.seqrelid = rel.oid
UNION ALL SELECT 'statistics', pg_catalog.quote_ident(space.nspname) || '.' || pg_catalog.quote_ident(s.stxname), pg_catalog.pg_get_statisticsobjdef(s.oid) FROM pg_catalog.pg_statistic_ext s JOIN space ON space.oid = s.stxnamespace
UNION ALL SELECT 'function', ident, 'owner ' || proowner::pg_catalog.regrole::pg_catalog.text || ' ' || CASE WHEN prokind = 'a'
		THEN (SELECT pg_catalog.concat_ws(' ', g.aggtransfn, g.aggfinalfn, g.aggcombinefn, g.aggtranstype::pg_catalog.regtype, g.agginitval) FROM pg_catalog.pg_aggregate g WHERE g.aggfnoid = proc.oid)
		ELSE pg_catalog.pg_get_functiondef(oid) END FROM proc
UNION ALL SELECT 'type', ident, pg_catalog.concat_ws(' ', 'owner', typowner::pg_catalog.regrole, typtype,
		(SELECT pg_catalog.string_agg(pg_catalog.quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e WHERE e.enumtypid = typ.oid),
		CASE WHEN typtype = 'd' THEN pg_catalog.format_type(typbasetype, typtypmod) END, CASE WHEN typnotnull THEN 'not null' END, 'default ' || typdefault,
		(SELECT r.rngsubtype::pg_catalog.regtype::pg_catalog.text FROM pg_catalog.pg_range r WHERE r.rngtypid = typ.oid)) FROM typ
UNION ALL SELECT 'grant', x.privilege_type || ' on ' || acl.kind || ' ' || acl.ident || ' to ' || CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::pg_catalog.regrole::pg_catalog.text END,
		pg_catalog.string_agg('by ' || x.grantor::pg_catalog.regrole::pg_catalog.text || CASE WHEN x.is_grantable THEN ' with grant option' ELSE '' END, ', ' ORDER BY x.grantor::pg_catalog.regrole::pg_catalog.text)
	FROM acl, LATERAL pg_catalog.aclexplode(acl.acl) x WHERE NOT (acl.kind = 'database' AND x.privilege_type = 'CONNECT') GROUP BY 1, 2 -- who may connect is a matter of the fence
UNION ALL SELECT 'default privileges', pg_catalog.concat_ws(' ', x.privilege_type, 'on', d.defaclobjtype, 'of', d.defaclrole::pg_catalog.regrole, 'in ' || n.nspname, 'to', CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE x.grantee::pg_catalog.regrole::pg_catalog.text END),
		pg_catalog.bool_or(x.is_grantable)::pg_catalog.text
	FROM pg_catalog.pg_default_acl d LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace, LATERAL pg_catalog.aclexplode(d.defaclacl) x GROUP BY 1, 2
UNION ALL SELECT 'comment', 'on ' || pg_catalog.pg_describe_object(d.classoid, d.objoid, d.objsubid), d.description FROM pg_catalog.pg_description d
	WHERE d.objoid >= 16384 AND d.classoid NOT IN ('pg_catalog.pg_publication'::pg_catalog.regclass, 'pg_catalog.pg_event_trigger'::pg_catalog.regclass, 'pg_catalog.pg_subscription'::pg_catalog.regclass)
	AND NOT EXISTS (SELECT FROM member m WHERE m.classid = d.classoid AND m.objid = d.objoid)
	AND NOT (d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objoid IN (SELECT oid FROM pg_catalog.pg_class WHERE relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'freehold')))
	AND NOT (d.classoid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objoid IN (SELECT oid FROM pg_catalog.pg_proc WHERE pronamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'freehold')))
UNION ALL SELECT 'comment', 'on database ' || pg_catalog.quote_ident(datname), pg_catalog.shobj_description(oid, 'pg_database') FROM db WHERE pg_catalog.shobj_description(oid, 'pg_database') IS NOT NULL
UNION ALL SELECT 'setting', pg_catalog.concat_ws(' ', pg_catalog.split_part(one, '=', 1), 'of', CASE s.setrole WHEN 0 THEN 'the database' ELSE 'role ' || s.setrole::pg_catalog.regrole::pg_catalog.text END, CASE s.setdatabase WHEN 0 THEN 'in all databases' END),
		pg_catalog.substr(one, pg_catalog.strpos(one, '=') + 1)
	FROM pg_catalog.pg_db_role_setting s CROSS JOIN db LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole, LATERAL unnest(s.setconfig) one
	WHERE s.setdatabase = db.oid OR s.setdatabase = 0 AND pg_catalog.starts_with(r.rolname, db.datname || '_')
UNION ALL SELECT 'role', pg_catalog.quote_ident(r.rolname), pg_catalog.concat_ws(' ', 'superuser', r.rolsuper, 'inherit', r.rolinherit, 'createrole', r.rolcreaterole, 'createdb', r.rolcreatedb, 'login', r.rolcanlogin, 'replication', r.rolreplication,
		'bypassrls', r.rolbypassrls, 'connections', r.rolconnlimit, 'member of ' || (SELECT pg_catalog.string_agg(m.roleid::pg_catalog.regrole::pg_catalog.text, ',' ORDER BY m.roleid::pg_catalog.regrole::pg_catalog.text) FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid))
	FROM pg_catalog.pg_roles r CROSS JOIN db WHERE (r.rolname = db.datname OR pg_catalog.starts_with(r.rolname, db.datname || '_')) AND NOT pg_catalog.starts_with(r.rolname, db.datname || '_tmp_') -- those of people end by themselves
	AND r.rolname !~ (db.datname || '_(apply|mv)') -- these are each server's own
UNION ALL SELECT 'event trigger', pg_catalog.quote_ident(evtname), pg_catalog.concat_ws(' ', evtevent, evtfoid::pg_catalog.regproc, evtenabled, evttags) FROM pg_catalog.pg_event_trigger WHERE NOT pg_catalog.starts_with(evtname, 'freehold_')
UNION ALL SELECT 'publication', pg_catalog.quote_ident(pubname), pg_catalog.concat_ws(' ', puballtables, pubinsert, pubupdate, pubdelete, pubtruncate, pubviaroot) FROM pg_catalog.pg_publication WHERE NOT pg_catalog.starts_with(pubname, 'freehold_')
UNION ALL SELECT 'object', pg_catalog.pg_describe_object(o.classid, o.oid, 0), '' FROM (
		SELECT 'pg_catalog.pg_operator'::pg_catalog.regclass AS classid, oid FROM pg_catalog.pg_operator UNION ALL SELECT 'pg_catalog.pg_opclass'::pg_catalog.regclass, oid FROM pg_catalog.pg_opclass
		UNION ALL SELECT 'pg_catalog.pg_opfamily'::pg_catalog.regclass, oid FROM pg_catalog.pg_opfamily UNION ALL SELECT 'pg_catalog.pg_cast'::pg_catalog.regclass, oid FROM pg_catalog.pg_cast
		UNION ALL SELECT 'pg_catalog.pg_collation'::pg_catalog.regclass, oid FROM pg_catalog.pg_collation UNION ALL SELECT 'pg_catalog.pg_conversion'::pg_catalog.regclass, oid FROM pg_catalog.pg_conversion
		UNION ALL SELECT 'pg_catalog.pg_ts_config'::pg_catalog.regclass, oid FROM pg_catalog.pg_ts_config UNION ALL SELECT 'pg_catalog.pg_ts_dict'::pg_catalog.regclass, oid FROM pg_catalog.pg_ts_dict
		UNION ALL SELECT 'pg_catalog.pg_foreign_server'::pg_catalog.regclass, oid FROM pg_catalog.pg_foreign_server UNION ALL SELECT 'pg_catalog.pg_foreign_data_wrapper'::pg_catalog.regclass, oid FROM pg_catalog.pg_foreign_data_wrapper
	) o WHERE o.oid >= 16384 AND NOT EXISTS (SELECT FROM member m WHERE m.classid = o.classid AND m.objid = o.oid)
