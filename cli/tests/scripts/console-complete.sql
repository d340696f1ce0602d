CREATE TABLE people (name STRING, age BIGINT) USING json OPTIONS (path 'people');
CREATE STREAMING TABLE o USING console OPTIONS (trigger 'availableNow', outputMode 'complete') AS SELECT count(*) AS n, avg(age) AS age FROM STREAM people;
