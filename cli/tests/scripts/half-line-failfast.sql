CREATE TABLE half (name STRING, age BIGINT) USING json OPTIONS (path 'half', mode 'FAILFAST');
CREATE STREAMING TABLE o USING console OPTIONS (trigger 'availableNow') AS SELECT * FROM STREAM half;
