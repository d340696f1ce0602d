CREATE TABLE people (name STRING, age BIGINT) USING json OPTIONS (path 'people');
CREATE STREAMING TABLE o USING console OPTIONS (trigger 'availableNow', outputMode 'update', checkpointLocation 'cp') AS SELECT name, count(*) AS n FROM STREAM people GROUP BY name;
-- run again
-- damage flip cp/metadata
CREATE TABLE people (name STRING, age BIGINT) USING json OPTIONS (path 'people');
CREATE STREAMING TABLE o USING console OPTIONS (trigger 'availableNow', outputMode 'update', checkpointLocation 'cp') AS SELECT name, count(*) AS n FROM STREAM people GROUP BY name;
