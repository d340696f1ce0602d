CREATE TABLE people (name STRING, age BIGINT) USING json OPTIONS (path 'people');

SELECT name,
  FROM people;
