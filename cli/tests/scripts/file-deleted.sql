CREATE TABLE people (name STRING, age BIGINT) USING json OPTIONS (path 'people');
CREATE STREAMING TABLE o USING console OPTIONS (trigger 'availableNow', checkpointLocation 'cp') AS SELECT * FROM STREAM people;
-- run again
-- damage delete people/1.json
CREATE TABLE people (name STRING, age BIGINT) USING json OPTIONS (path 'people');
CREATE STREAMING TABLE o USING console OPTIONS (trigger 'availableNow', checkpointLocation 'cp') AS SELECT * FROM STREAM people;
