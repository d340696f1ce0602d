CREATE TABLE people (name STRING, age BIGINT) USING json OPTIONS (path 'people');
SELECT name, age FROM people ORDER BY age;
SET spark.sql.shuffle.partitions = 3;
SET spark.sql.shuffle.partitions;
