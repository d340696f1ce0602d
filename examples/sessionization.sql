-- Sessions of users (Spark's StructuredSessionization): events of one user that are less than five minutes apart belong
-- together. A session comes out when the watermark has passed its end.
CREATE TABLE events (userId STRING, timestamp TIMESTAMP)
USING json OPTIONS (path 'examples/data/events', maxFilesPerTrigger '1');

CREATE STREAMING TABLE sessions
USING console OPTIONS (outputMode 'append', trigger 'availableNow', truncate 'false')
AS SELECT session_window.start, session_window.end, userId, count(*) AS events
FROM STREAM events WATERMARK timestamp DELAY OF INTERVAL 10 MINUTES
GROUP BY session_window(timestamp, '5 minutes'), userId;
