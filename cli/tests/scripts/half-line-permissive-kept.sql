CREATE TABLE half (name STRING, age BIGINT, _corrupt_record STRING) USING json OPTIONS (path 'half');
CREATE STREAMING TABLE o USING console OPTIONS (trigger 'availableNow') AS SELECT * FROM STREAM half;
