CREATE TABEL people (name STRING) USING json;
