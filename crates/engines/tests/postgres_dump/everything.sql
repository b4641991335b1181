-- A database with every kind of object that a dump has to carry. Runs on PostgreSQL 14 and newer.
SET client_min_messages = error;
CREATE EXTENSION hstore;
CREATE SCHEMA "Odd schema";
CREATE SCHEMA shop;
COMMENT ON SCHEMA shop IS 'a comment with ''quotes'' and ümlauts';
COMMENT ON DATABASE :"DBNAME" IS 'the whole of it';

CREATE ROLE :"role_reader" NOLOGIN;
CREATE ROLE :"role_owner" NOLOGIN;

-- Types, domains, ranges, collations, operators, aggregates, casts, conversions, text search.
CREATE TYPE shop.mood AS ENUM ('sad', 'ok', 'hap''py');
CREATE TYPE shop.pair AS (a int, b text);
CREATE DOMAIN shop.positive AS int CHECK (VALUE > 0);
CREATE TYPE shop.span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE COLLATION shop.plain (provider = libc, locale = 'C');
CREATE FUNCTION shop.twice(int) RETURNS int LANGUAGE sql IMMUTABLE AS $$ SELECT $1 * 2 $$;
CREATE PROCEDURE shop.nothing() LANGUAGE plpgsql AS $body$ BEGIN NULL; END $body$;
CREATE AGGREGATE shop.total(int) (SFUNC = int4pl, STYPE = int, INITCOND = '0');
CREATE OPERATOR shop.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
CREATE CAST (shop.pair AS text) WITH INOUT;
CREATE TEXT SEARCH CONFIGURATION shop.words (COPY = pg_catalog.simple);
CREATE SEQUENCE shop.loose START 42 INCREMENT 3;
SELECT nextval('shop.loose'), nextval('shop.loose');
CREATE SEQUENCE shop.untouched START 7;
CREATE SEQUENCE shop.down INCREMENT -1 MINVALUE -1000000000000 START -5;
SELECT nextval('shop.down');

-- Tables of every kind.
CREATE TABLE shop.people (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL COLLATE shop.plain,
  mood shop.mood DEFAULT 'ok',
  born date,
  doubled int GENERATED ALWAYS AS (age * 2) STORED,
  age shop.positive,
  tags text[],
  attributes hstore,
  doc jsonb,
  both_names shop.pair,
  spans shop.span,
  UNIQUE (name, born),
  EXCLUDE USING gist (spans WITH &&)
);
INSERT INTO shop.people (name, mood, born, age, tags, attributes, doc, both_names, spans)
SELECT 'person ' || i, (ARRAY['sad', 'ok', 'hap''py'])[1 + i % 3]::shop.mood, date '1950-01-01' + i, 1 + i % 90,
  ARRAY['a,b', 'c"d', NULL, '\', E'tab\there'], hstore('k', i::text), jsonb_build_object('i', i, 'text', E'line\nfeed'),
  ROW(i, 'x'::text)::shop.pair, shop.span(i, i + 0.5)
FROM generate_series(1, 1000) AS i;
CREATE TABLE "Odd schema"."Täble ""x"" with a very long name, dots . and 'quotes'" (
  "Id With Blanks" serial, "select" text, "ünï" bytea, "a.b" numeric, "tab	tab" int);
INSERT INTO "Odd schema"."Täble ""x"" with a very long name, dots . and 'quotes'" ("select", "ünï", "a.b")
VALUES (E'back\\slash', '\x00ff0a0d5c', 'NaN'), (E'\\.', '', 'Infinity'), ('\N', NULL, 1e-300), (NULL, '\x', -0.0),
  (E'\r\n\t\v\f\b', '\x5c2e0a', 12345678901234567890.123456789), ('', '\x0a', '-Infinity');
CREATE TABLE shop.numbers (f4 float4, f8 float8, n numeric, m money, i interval, t timestamptz, tz timetz, b bit varying,
  u uuid, x xml, p point, c cidr, mac macaddr, ts tsvector, js json, o oid, l pg_lsn);
INSERT INTO shop.numbers VALUES
  ('NaN', 'Infinity', 'NaN', 12.34, '1 year -2 days 03:04:05.678', '2026-03-29 02:30:00+02', '12:00+05', B'1011',
   '6f1f9a2e-0c1d-4f5e-8a9b-000000000001', NULL, '(1.1,2)', '10/8', '08:00:2b:01:02:03', 'a:1 fat:2', '{"a" : 1}', 1,
   '16/B374D848'),
  (1.1, 0.1, 1e100, -5, '-1 mon', 'infinity', '00:00+00', B'', NULL, NULL, NULL, NULL, NULL, NULL,
   '[]', NULL, NULL),
  ('-Infinity', 1e-320, 0, 0, 'P0Y', '-infinity', '23:59:59.999999-11', NULL, NULL, NULL, NULL, NULL, NULL, NULL,
   '1', 4294967295, '0/0');
CREATE TABLE shop.no_columns ();
INSERT INTO shop.no_columns SELECT FROM generate_series(1, 5);
CREATE TABLE shop.no_rows (a int, b text);
CREATE TABLE shop.lost_column (a int, gone text, b text);
INSERT INTO shop.lost_column VALUES (1, 'x', 'y');
ALTER TABLE shop.lost_column DROP COLUMN gone;
ALTER TABLE shop.lost_column ADD COLUMN later int DEFAULT 9;
CREATE UNLOGGED TABLE shop.unlogged (a int);
INSERT INTO shop.unlogged VALUES (1), (2);
CREATE TABLE shop.parent (a int, b text);
CREATE TABLE shop.child (c int) INHERITS (shop.parent);
INSERT INTO shop.parent VALUES (1, 'parent');
INSERT INTO shop.child VALUES (2, 'child', 3);
CREATE TABLE shop.typed OF shop.pair (PRIMARY KEY (a));
INSERT INTO shop.typed VALUES (1, 'typed');
CREATE TABLE shop.only_generated (always int GENERATED ALWAYS AS (5) STORED);
INSERT INTO shop.only_generated DEFAULT VALUES;

CREATE TABLE shop.orders (id int, day date NOT NULL, region text NOT NULL, amount numeric(10, 2), PRIMARY KEY (id, day, region))
  PARTITION BY RANGE (day);
CREATE TABLE shop.orders_2025 PARTITION OF shop.orders FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE shop.orders_2026 PARTITION OF shop.orders FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
  PARTITION BY LIST (region);
CREATE TABLE shop.orders_2026_north PARTITION OF shop.orders_2026 FOR VALUES IN ('north');
CREATE TABLE shop.orders_rest PARTITION OF shop.orders_2026 DEFAULT;
CREATE TABLE shop.orders_other (region text NOT NULL, amount numeric(10, 2), id int NOT NULL, day date NOT NULL);
ALTER TABLE shop.orders ATTACH PARTITION shop.orders_other DEFAULT;
INSERT INTO shop.orders SELECT i, date '2025-01-01' + i, (ARRAY['north', 'south'])[1 + i % 2], i / 7.0
FROM generate_series(1, 900) AS i;
CREATE INDEX ON shop.orders (amount);

-- An enum's hash is another one in each database: with one partition the text stays the same.
CREATE TABLE shop.by_mood (id int, mood shop.mood, area text) PARTITION BY LIST (area);
CREATE TABLE shop.by_mood_north PARTITION OF shop.by_mood FOR VALUES IN ('north') PARTITION BY HASH (mood);
CREATE TABLE shop.by_mood_0 PARTITION OF shop.by_mood_north FOR VALUES WITH (MODULUS 1, REMAINDER 0);
CREATE TABLE shop.by_mood_rest PARTITION OF shop.by_mood DEFAULT;
INSERT INTO shop.by_mood SELECT i, (ARRAY['sad', 'ok', 'hap''py'])[1 + i % 3]::shop.mood, (ARRAY['north', 'south'])[1 + i % 2]
FROM generate_series(1, 60) AS i;

-- Foreign keys in a circle, and one on itself.
CREATE TABLE shop.chicken (id int PRIMARY KEY, egg int, mother int REFERENCES shop.chicken);
CREATE TABLE shop.egg (id int PRIMARY KEY, chicken int REFERENCES shop.chicken DEFERRABLE INITIALLY DEFERRED);
INSERT INTO shop.chicken VALUES (1, 1, 1), (2, 2, 1);
INSERT INTO shop.egg VALUES (1, 1), (2, 2);
ALTER TABLE shop.chicken ADD FOREIGN KEY (egg) REFERENCES shop.egg;

-- Wide and long values.
CREATE TABLE shop.long (id int, body text, raw bytea);
ALTER TABLE shop.long ALTER COLUMN body SET STORAGE EXTERNAL;
INSERT INTO shop.long SELECT i, repeat('line ' || i || E'\n', 20000), decode(repeat(md5(i::text), 5000), 'hex')
FROM generate_series(1, 20) AS i;
SELECT 'CREATE TABLE shop.wide (' || string_agg('c' || i || ' int', ', ') || ')' FROM generate_series(1, 1600) AS i \gexec
INSERT INTO shop.wide (c1, c1600) VALUES (1, 1600);

-- Views, rules, triggers, indexes, statistics, policies, rights.
CREATE VIEW shop.adults AS SELECT * FROM shop.people WHERE age >= 18 WITH CHECK OPTION;
CREATE MATERIALIZED VIEW shop.sums AS SELECT region, sum(amount) AS total FROM shop.orders GROUP BY region;
CREATE UNIQUE INDEX ON shop.sums (region);
CREATE VIEW shop.between AS SELECT total FROM shop.sums;
CREATE MATERIALIZED VIEW shop.a_sum_of_sums AS SELECT sum(total) AS total FROM shop.between;
CREATE MATERIALIZED VIEW shop.never_filled AS SELECT 1 AS one WITH NO DATA;
CREATE RULE no_delete AS ON DELETE TO shop.no_rows DO INSTEAD NOTHING;
CREATE FUNCTION shop.audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no trigger fires in a restore'; END $$;
CREATE TRIGGER audited BEFORE INSERT OR UPDATE ON shop.typed FOR EACH ROW EXECUTE FUNCTION shop.audit();
ALTER TABLE shop.typed DISABLE TRIGGER audited;
CREATE INDEX people_doc ON shop.people USING gin (doc);
CREATE INDEX people_part ON shop.people (lower(name)) INCLUDE (age) WHERE age > 10;
CREATE STATISTICS shop.people_stats (dependencies) ON name, born FROM shop.people;
ALTER TABLE shop.people ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON shop.people FOR SELECT TO :"role_reader" USING (name = current_user);
GRANT USAGE ON SCHEMA shop TO :"role_reader";
GRANT SELECT (id, name), UPDATE (name) ON shop.people TO :"role_reader" WITH GRANT OPTION;
ALTER TABLE shop.no_rows OWNER TO :"role_owner";
ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT SELECT ON TABLES TO :"role_reader";
CREATE PUBLICATION everything FOR TABLE shop.people, shop.orders;
CREATE FUNCTION shop.on_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN NULL; END $$;
CREATE EVENT TRIGGER ddl ON ddl_command_start EXECUTE FUNCTION shop.on_ddl();
CREATE FOREIGN DATA WRAPPER nobody;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER nobody OPTIONS (host 'nowhere');
CREATE USER MAPPING FOR :"role_reader" SERVER elsewhere OPTIONS (password 'x');
CREATE FOREIGN TABLE shop.abroad (a int) SERVER elsewhere;
COMMENT ON COLUMN shop.people.name IS 'how she is called';
ALTER DATABASE :"DBNAME" SET work_mem = '5MB';

-- Large objects: none, some bytes, more than a block.
SELECT lo_from_bytea(4000000000, '\x00010a5c');
SELECT lo_from_bytea(77, decode(repeat(md5('x'), 50000), 'hex'));
SELECT lo_create(78);
GRANT SELECT ON LARGE OBJECT 77 TO :"role_reader";
COMMENT ON LARGE OBJECT 78 IS 'empty';

-- What is rare: operators' families, parts of text search, languages' routines with bodies of their own, casts and conversions.
CREATE OPERATOR FAMILY shop.by_size USING btree;
CREATE FUNCTION shop.compare(int, int) RETURNS int LANGUAGE sql IMMUTABLE RETURN CASE WHEN $1 < $2 THEN -1 WHEN $1 > $2 THEN 1 ELSE 0 END;
CREATE OPERATOR CLASS shop.by_size_ops FOR TYPE int USING btree FAMILY shop.by_size AS
  OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 shop.compare(int, int);
CREATE TEXT SEARCH DICTIONARY shop.stems (TEMPLATE = pg_catalog.simple, accept = false);
ALTER TEXT SEARCH CONFIGURATION shop.words ALTER MAPPING FOR asciiword WITH shop.stems, simple;
CREATE CONVERSION shop.to_latin FOR 'UTF8' TO 'LATIN1' FROM utf8_to_iso8859_1;
CREATE FUNCTION shop.mood_number(shop.mood) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT length($1::text)';
CREATE CAST (shop.mood AS int) WITH FUNCTION shop.mood_number(shop.mood) AS ASSIGNMENT;
CREATE FUNCTION shop.busy(INOUT a int, OUT b text, VARIADIC c int[] DEFAULT '{1,2}') RETURNS record LANGUAGE plpgsql
  STABLE STRICT SECURITY DEFINER PARALLEL SAFE COST 7 SET work_mem = '3MB' AS $$ BEGIN b := 'x'; END $$;
REVOKE ALL ON FUNCTION shop.twice(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION shop.twice(int) TO :"role_reader";
GRANT USAGE ON TYPE shop.mood TO :"role_reader";
CREATE ACCESS METHOD heap_too TYPE TABLE HANDLER heap_tableam_handler;
CREATE TABLE shop.by_another_method (a int) USING heap_too;
INSERT INTO shop.by_another_method SELECT generate_series(1, 10);

-- Constraints, storage, partitions by hash, views and triggers with options of their own.
CREATE TABLE shop.rules (
  id int GENERATED BY DEFAULT AS IDENTITY (START 100 INCREMENT 5 CYCLE MAXVALUE 1000) PRIMARY KEY,
  a int CONSTRAINT a_is_there NOT NULL CONSTRAINT a_is_small CHECK (a < 1000) NO INHERIT,
  b text COMPRESSION pglz DEFAULT lower('B'),
  spans int4multirange DEFAULT '{[1,3),[5,8)}',
  UNIQUE (a, b) DEFERRABLE
) WITH (fillfactor = 70, autovacuum_enabled = off);
INSERT INTO shop.rules (a) SELECT generate_series(1, 20);
ALTER TABLE shop.rules ADD CONSTRAINT not_valid CHECK (a > 10) NOT VALID;
ALTER TABLE shop.rules ADD CONSTRAINT parent_not_valid FOREIGN KEY (a) REFERENCES shop.egg ON DELETE SET NULL ON UPDATE CASCADE NOT VALID;
ALTER TABLE shop.rules REPLICA IDENTITY FULL;
ALTER TABLE shop.rules CLUSTER ON rules_pkey;
ALTER TABLE shop.rules ALTER a SET STATISTICS 500;
COMMENT ON CONSTRAINT not_valid ON shop.rules IS 'old rows break it';
CREATE TABLE shop.hashed (id int PRIMARY KEY, body text) PARTITION BY HASH (id);
CREATE TABLE shop.hashed_0 PARTITION OF shop.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE shop.hashed_1 PARTITION OF shop.hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO shop.hashed SELECT i, 'body ' || i FROM generate_series(1, 300) AS i;
CREATE TABLE shop.of_hashed (hashed int REFERENCES shop.hashed);
INSERT INTO shop.of_hashed VALUES (1), (2), (300);
CREATE TABLE shop.two_parents () INHERITS (shop.parent, shop.no_rows);
INSERT INTO shop.two_parents VALUES (7, 'both');
CREATE SEQUENCE shop.owned OWNED BY shop.parent.a;
CREATE SEQUENCE shop.small AS smallint CACHE 10 CYCLE;
CREATE VIEW shop.guarded WITH (security_barrier) AS SELECT id FROM shop.people;
CREATE FUNCTION shop.instead() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER instead INSTEAD OF INSERT ON shop.guarded FOR EACH ROW EXECUTE FUNCTION shop.instead();
CREATE CONSTRAINT TRIGGER late AFTER INSERT ON shop.rules DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION shop.instead();
CREATE TRIGGER seen AFTER UPDATE ON shop.rules REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION shop.instead();
ALTER TABLE shop.rules ENABLE ALWAYS TRIGGER seen;
CREATE VIEW shop.counted AS WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < 5) SELECT n FROM c;
CREATE RULE told AS ON INSERT TO shop.no_rows DO ALSO NOTIFY told;
CREATE POLICY none_of_it ON shop.people AS RESTRICTIVE FOR DELETE TO PUBLIC USING (false);
CREATE INDEX rules_hash ON shop.rules USING hash (b);
CREATE INDEX rules_brin ON shop.rules USING brin (id) WITH (pages_per_range = 16);
CREATE INDEX ON ONLY shop.hashed (body);
CREATE STATISTICS shop.of_expressions ON (a % 7), lower(b) FROM shop.rules;
ALTER DEFAULT PRIVILEGES FOR ROLE :"role_owner" REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
SELECT current_setting('server_version_num')::int >= 150000 AS since_15, current_setting('server_version_num')::int >= 180000 AS since_18 \gset
\if :since_15
CREATE TABLE shop.not_distinct (a int UNIQUE NULLS NOT DISTINCT);
CREATE VIEW shop.invoked WITH (security_invoker) AS SELECT a FROM shop.rules;
CREATE UNLOGGED SEQUENCE shop.unlogged_numbers;
CREATE PUBLICATION filtered FOR TABLE shop.rules WHERE (id > 5), TABLES IN SCHEMA "Odd schema";
\endif
\if :since_18
CREATE TABLE shop.newest (id int4range, during daterange, base int, doubled int GENERATED ALWAYS AS (base * 2) VIRTUAL,
  PRIMARY KEY (id, during WITHOUT OVERLAPS));
INSERT INTO shop.newest (id, during, base) VALUES ('[1,2)', '[2026-01-01,2026-02-01)', 4);
ALTER TABLE shop.newest ADD CONSTRAINT base_is_there NOT NULL base NOT VALID;
\endif
