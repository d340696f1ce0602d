CREATE TABLE people (name STRING, age BIGINT) USING json OPTIONS (path 'people');
CREATE STREAMING TABLE o USING console OPTIONS (trigger 'availableNow', outputMode 'append') AS SELECT name, count(*) FROM STREAM people GROUP BY name;
