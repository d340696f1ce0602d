CREATE TABLE people (name STRING) USING json;
CREATE STREAMING TABLE o USING console OPTIONS (trigger 'availableNow') AS SELECT * FROM STREAM people;
