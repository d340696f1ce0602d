CREATE TABLE wrong (name STRING, age BIGINT) USING json OPTIONS (path 'wrong');
CREATE STREAMING TABLE o USING console OPTIONS (trigger 'availableNow') AS SELECT * FROM STREAM wrong;
