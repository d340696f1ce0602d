CREATE TABLE people (name STRING) USING json OPTIONS (path 'nowhere');
CREATE STREAMING TABLE o USING console OPTIONS (trigger 'availableNow') AS SELECT * FROM STREAM people;
