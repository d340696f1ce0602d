CREATE TABLE people (name STRING, age BIGINT) USING json OPTIONS (path 'people');
CREATE STREAMING TABLE o USING console OPTIONS (trigger 'availableNow', numRow '3') AS SELECT * FROM STREAM people;
