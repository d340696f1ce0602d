CREATE TABLE e (name STRING) USING json OPTIONS (path 'empty');
CREATE STREAMING TABLE o USING console OPTIONS (trigger 'availableNow') AS SELECT * FROM STREAM e;
