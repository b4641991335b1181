//! What a large table needs is made as soon as its rows are there, and nothing of it is missing or made twice.

use crate::encodings::{backup, context, restore};
use testkit::{Cluster, POSTGRES_VERSIONS};

/// Tables of more than the size from which on that is done, with all that may stand on an index.
const LARGE: &str = "
  CREATE TABLE big (id int, body text NOT NULL, span int4range);
  INSERT INTO big SELECT i, repeat(md5(i::text), 3), int4range(i, i + 1) FROM generate_series(1, 90000) AS i;
  ALTER TABLE big ADD PRIMARY KEY (id);
  ALTER TABLE big ADD CONSTRAINT once UNIQUE (body, id) DEFERRABLE INITIALLY DEFERRED;
  ALTER TABLE big ADD CONSTRAINT apart EXCLUDE USING gist (span WITH &&);
  CREATE FUNCTION shorter(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT left($1, 4)';
  CREATE INDEX \"by it's start\" ON big (shorter(body)) WHERE id > 10;
  ALTER INDEX \"by it's start\" ALTER COLUMN 1 SET STATISTICS 77;
  CREATE UNIQUE INDEX identity ON big (id);
  ALTER TABLE big REPLICA IDENTITY USING INDEX identity;
  ALTER TABLE big CLUSTER ON identity;
  COMMENT ON INDEX identity IS 'an index';
  COMMENT ON CONSTRAINT big_pkey ON big IS 'a key';
  CREATE STATISTICS together ON id, body FROM big;
  CREATE TABLE small (a int PRIMARY KEY REFERENCES big (id), b text);
  COMMENT ON CONSTRAINT small_pkey ON small IS 'another key';
  INSERT INTO small SELECT i, 'x' FROM generate_series(1, 100) AS i;
  CREATE TABLE pointing (id int PRIMARY KEY, big int, small int, self int, body text,
    CONSTRAINT to_big FOREIGN KEY (big) REFERENCES big (id) ON DELETE CASCADE,
    CONSTRAINT to_small FOREIGN KEY (small) REFERENCES small (a) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT to_itself FOREIGN KEY (self) REFERENCES pointing (id));
  INSERT INTO pointing SELECT i, i, 1 + i % 100, i / 2 + 1, repeat(md5(i::text), 3) FROM generate_series(1, 90000) AS i;
  COMMENT ON CONSTRAINT to_big ON pointing IS 'from one large table to another';
  ALTER TABLE big ADD COLUMN points int;
  ALTER TABLE big ADD CONSTRAINT back FOREIGN KEY (points) REFERENCES pointing (id) NOT VALID;
  CREATE VIEW grouped AS SELECT id, body FROM big GROUP BY id;
  CREATE TABLE parted (id int, body text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
  CREATE TABLE part_1 PARTITION OF parted FOR VALUES FROM (1) TO (100000);
  CREATE TABLE part_2 PARTITION OF parted FOR VALUES FROM (100000) TO (200000);
  INSERT INTO parted SELECT i, repeat(md5(i::text), 3) FROM generate_series(1, 90000) AS i;
  CREATE INDEX parted_body ON parted (body);
  CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM big;";

#[test]
fn what_is_made_early_is_made_once_and_whole() {
    for major in POSTGRES_VERSIONS {
        let cluster = Cluster::start(major);
        let folder = tempfile::tempdir().unwrap();
        let context = context(&cluster, folder.path());
        cluster.create("source");
        cluster.sql("source", LARGE);
        restore(&cluster, &backup(&cluster, "source", &context), "copy", &context);
        assert_eq!(cluster.text("source"), cluster.text("copy"), "{major}");
        let invalid = "SELECT count(*) FROM pg_index WHERE NOT (indisvalid AND indisready)";
        assert_eq!(cluster.sql("copy", invalid), "0");
        let statistics = "SELECT count(DISTINCT tablename) FROM pg_stats WHERE schemaname = 'public'
          AND tablename IN ('big', 'pointing', 'small', 'part_1', 'once', 'by it''s start')";
        assert_eq!(cluster.sql("copy", statistics), "5", "{major}");
        assert_eq!(cluster.sql("copy", "SELECT count(*) FROM pg_statistic_ext_data"), "1", "{major}");
        assert_eq!(cluster.sessions_left(), Vec::<String>::new());
    }
}

#[test]
fn a_server_with_few_connections_is_restored_to() {
    for major in POSTGRES_VERSIONS {
        // Who restores and both who load have one each: one of two tables at most is given what it needs early.
        let cluster = Cluster::start_with(major, &["max_connections=4", "superuser_reserved_connections=0"]);
        let folder = tempfile::tempdir().unwrap();
        let context = context(&cluster, folder.path());
        cluster.create("source");
        cluster.sql("source", LARGE);
        let backup = backup(&cluster, "source", &context);
        restore(&cluster, &backup, "copy", &context);
        assert_eq!(cluster.text("source"), cluster.text("copy"), "{major}");
    }
}
