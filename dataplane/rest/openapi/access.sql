-- What the current role may use of a schema ($1), or all of it ($2), and what comments say of it.
WITH RECURSIVE
-- What domains are made of, down to what is none.
domain AS (
  SELECT t.oid, t.typbasetype AS base FROM pg_catalog.pg_type t WHERE t.typtype = 'd'
  UNION ALL
  SELECT d.oid, t.typbasetype FROM domain d JOIN pg_catalog.pg_type t ON t.oid = d.base AND t.typtype = 'd'),
base_type AS (
  SELECT d.oid, d.base FROM domain d JOIN pg_catalog.pg_type t ON t.oid = d.base AND t.typtype <> 'd')
SELECT json_build_object(
  'Comment', (SELECT pg_catalog.obj_description(n.oid, 'pg_namespace') FROM pg_catalog.pg_namespace n WHERE n.nspname = $1),
  'Relations', (
    SELECT json_object_agg(c.relname, json_build_object(
             'Comment', pg_catalog.obj_description(c.oid, 'pg_class'),
             'Columns', (
               SELECT json_agg(json_build_object(
                        'Name', a.attname, 'Comment', pg_catalog.col_description(c.oid, a.attnum),
                        'Type', CASE WHEN t.typtype = 'd' AND bt.typnamespace = 'pg_catalog'::pg_catalog.regnamespace THEN pg_catalog.format_type(bt.oid, NULL)
                                     WHEN t.typtype <> 'd' AND t.typnamespace = 'pg_catalog'::pg_catalog.regnamespace THEN pg_catalog.format_type(a.atttypid, NULL)
                                     ELSE pg_catalog.format_type(a.atttypid, a.atttypmod) END,
                        'Default', CASE WHEN t.typtype = 'd' AND d.adbin IS NULL THEN pg_catalog.pg_get_expr(t.typdefaultbin, 0)
                                        WHEN a.attgenerated = '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END,
                        'MaxLength', CASE WHEN coalesce(bt.oid, t.oid) IN (1042, 1043) THEN nullif(greatest(a.atttypmod, t.typtypmod), -1) - 4
                                          WHEN coalesce(bt.oid, t.oid) IN (1560, 1562) THEN nullif(greatest(a.atttypmod, t.typtypmod), -1) END,
                        'Enum', (SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e WHERE e.enumtypid = coalesce(bt.oid, t.oid)))
                      ORDER BY a.attnum)
                 FROM pg_catalog.pg_attribute a
                 JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
                 LEFT JOIN base_type b ON b.oid = t.oid
                 LEFT JOIN pg_catalog.pg_type bt ON bt.oid = b.base
                 LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)))
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
       AND ($2::bool OR pg_catalog.has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE') OR pg_catalog.has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE'))),
  'Functions', (
    SELECT json_object_agg(f.proname, f.comment)
      FROM (SELECT DISTINCT ON (p.proname) p.proname, pg_catalog.obj_description(p.oid, 'pg_proc') AS comment
              FROM pg_catalog.pg_proc p
              JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
             WHERE n.nspname = $1 AND p.prokind = 'f' AND ($2::bool OR pg_catalog.has_function_privilege(p.oid, 'EXECUTE'))
             ORDER BY p.proname, p.pronargs DESC) f))
