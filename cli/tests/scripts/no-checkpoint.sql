CREATE TABLE people (name STRING, age BIGINT) USING json OPTIONS (path 'people');
CREATE STREAMING TABLE o USING parquet OPTIONS (trigger 'availableNow', path 'out') AS SELECT * FROM STREAM people;
