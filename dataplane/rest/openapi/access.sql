-- What the current role may use of a schema ($1), and what comments say of it.
SELECT json_build_object(
  'Comment', (SELECT pg_catalog.obj_description(n.oid, 'pg_namespace') FROM pg_catalog.pg_namespace n WHERE n.nspname = $1),
  'Relations', (
    SELECT json_object_agg(c.relname, json_build_object(
             'Comment', pg_catalog.obj_description(c.oid, 'pg_class'),
             'Columns', (
               SELECT json_agg(json_build_object(
                        'Name', a.attname, 'Type', pg_catalog.format_type(a.atttypid, NULL), 'Comment', pg_catalog.col_description(c.oid, a.attnum),
                        'Default', pg_catalog.pg_get_expr(d.adbin, d.adrelid),
                        'MaxLength', CASE WHEN a.atttypid IN (1042, 1043) AND a.atttypmod > 4 THEN a.atttypmod - 4 END,
                        'Enum', (SELECT json_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e WHERE e.enumtypid = a.atttypid))
                      ORDER BY a.attnum)
                 FROM pg_catalog.pg_attribute a
                 LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)))
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = $1 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
       AND (pg_catalog.has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE') OR pg_catalog.has_any_column_privilege(c.oid, 'SELECT, INSERT, UPDATE'))),
  'Functions', (
    SELECT json_object_agg(f.proname, f.comment)
      FROM (SELECT DISTINCT ON (p.proname) p.proname, pg_catalog.obj_description(p.oid, 'pg_proc') AS comment
              FROM pg_catalog.pg_proc p
              JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
             WHERE n.nspname = $1 AND p.prokind = 'f' AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
             ORDER BY p.proname, p.pronargs DESC) f))
