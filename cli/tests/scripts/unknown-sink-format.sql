CREATE TABLE people (name STRING, age BIGINT) USING json OPTIONS (path 'people');
CREATE STREAMING TABLE o USING parqet OPTIONS (trigger 'availableNow') AS SELECT * FROM STREAM people;
